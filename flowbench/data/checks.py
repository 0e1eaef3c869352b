"""What must hold of a demonstration whatever made it: lengths, types, finite numbers, pictures that show something.

No simulator is needed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from flowbench.data.demonstration import DemoInfo, DemoReader
from flowbench.data.info import known_task
from flowbench.errors import FlowBenchError
from flowbench.task import ACTION_TOLERANCE

#: Images are decoded at this many steps, evenly spaced; everything else is read whole.
IMAGE_STEPS = 8
#: float32 rotations are orthonormal to this, with room for what others' tools round.
_ROTATION_TOLERANCE = 1e-3


def structural_problems(reader: DemoReader, demo: int) -> list[str]:
    """Return one sentence for everything that does not hold of a demonstration.

    Args:
        reader: The recording.
        demo: Index of the demonstration.
    """
    info = reader.demos[demo]
    if info.steps < 1:
        return ["it has no steps"]
    try:
        keys = list(info.arrays)
    except FlowBenchError as error:
        return [str(error).removesuffix(".")]
    problems = []
    for key in keys:
        try:
            # One sentence per array: what is wrong at one step is usually wrong at all.
            found = next(
                (problem for part in _parts(reader, demo, key) for problem in _problems(info, key, *part)), None
            )
        except FlowBenchError as error:
            found = str(error).removesuffix(".")
            problems.append(found)
            continue
        if found:
            problems.append(f"{key} {found}")
    return problems


def _parts(reader: DemoReader, demo: int, key: str) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first step, rows) of what is looked at: all of a vector at once, and single images."""
    info = reader.demos[demo]
    if key.rpartition("/")[2] not in ("rgb", "depth", "segmentation"):
        yield 0, reader.read(demo, key, slice(None))
        return
    for step in np.unique(np.linspace(0, info.steps - 1, min(IMAGE_STEPS, info.steps)).round().astype(int)).tolist():
        yield step, reader.read(demo, key, slice(step, step + 1))


def _problems(info: DemoInfo, key: str, first: int, values: np.ndarray) -> Iterator[str]:
    """Yield what does not hold of rows that start at step `first`."""
    spec = info.arrays[key]
    if values.dtype != spec.dtype or values.shape[1:] != tuple(spec.shape):
        yield f"is {values.dtype} {values.shape[1:]} per step, declared {spec.dtype} {tuple(spec.shape)}"
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        step = first + int(np.argwhere(~np.isfinite(values))[0][0])
        yield f"has a value that is not finite at step {step}"
    item = key.rpartition("/")[2]
    if key == "actions":
        yield from _action_problems(info, values)
    elif item == "rgb":
        if (values == values[:, :1, :1]).all():
            yield f"is one colour, {values[0, 0, 0].tolist()}, at step {first}"
    elif item == "depth":
        if values.min() < 0:
            yield f"is negative ({values.min():g} m) at step {first}"
        elif not values.any():
            yield f"hit nothing anywhere at step {first}"
    elif item == "segmentation":
        unknown = set(np.unique(values).tolist()) - {0} - set(info.segmentation_names)
        if unknown and info.segmentation_names:
            yield f"has ids without a name at step {first}: {sorted(unknown)[:5]}"
    elif item == "intrinsic_cv":
        # A negative fx is a mirrored image; see docs/decisions/0003.
        ok = (values[:, 0, 0] != 0) & (values[:, 1, 1] > 0) & (values[:, 2] == [0, 0, 1]).all(axis=1)
        if not ok.all():
            yield f"is not a camera matrix at step {int(np.argmin(ok))}: {values[int(np.argmin(ok))].tolist()}"
    elif item == "extrinsic_cv":
        yield from _pose_problems(values)


def _action_problems(info: DemoInfo, actions: np.ndarray) -> Iterator[str]:
    task = known_task(info)
    if task is None:
        return
    spec = task.action_spec
    if actions.shape[1] != spec.size:
        yield f"have {actions.shape[1]} components; {info.suite} takes {spec.size} ({', '.join(spec.labels)})"
        return
    outside = (actions < np.array(spec.low) - ACTION_TOLERANCE) | (actions > np.array(spec.high) + ACTION_TOLERANCE)
    if outside.any():
        step, component = np.argwhere(outside)[0].tolist()
        bounds = f"[{spec.low[component]:g}, {spec.high[component]:g}]"
        yield f"have {spec.labels[component]} = {actions[step, component]:g} at step {step}, outside {bounds}"


def _pose_problems(world_to_camera: np.ndarray) -> Iterator[str]:
    rotation = world_to_camera[:, :3, :3].astype(np.float64)
    wrong = np.abs(rotation @ rotation.swapaxes(1, 2) - np.eye(3)).max(axis=(1, 2)) > _ROTATION_TOLERANCE
    wrong |= np.linalg.det(rotation) < 0
    wrong |= (world_to_camera[:, 3] != [0, 0, 0, 1]).any(axis=1)
    if wrong.any():
        step = int(np.argmax(wrong))
        yield f"is not a rigid transform at step {step}: {world_to_camera[step].tolist()}"
