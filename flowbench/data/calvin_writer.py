"""Demonstrations in CALVIN's own layout, so that the loaders people have for it read ours.

One npz file per time step, the pieces with their sentences in `lang_annotations/auto_lang_ann.npy`, and the list of
recordings, as `flowbench.data.readers.calvin_npz` describes. What upstream's files have and these do not: tactile images,
and embeddings of the sentences (`language/emb`), which every method makes with its own encoder.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from flowbench.data.demonstration import DemoReader
from flowbench.errors import DataError

#: Name in the npz file -> key of a demonstration.
_IMAGES = {
    "rgb_static": "static/rgb",
    "rgb_gripper": "gripper/rgb",
    "depth_static": "static/depth",
    "depth_gripper": "gripper/depth",
}
_NUMBERS = ("robot_obs", "scene_obs", "tcp_target", "actions")
#: What a relative action of 1 means (calvin_env `conf/robot`: max_rel_pos, max_rel_orn), metres and radians.
_STEP = np.array([0.02] * 3 + [0.05] * 3)
#: Digits of a step's number in the releases.
_DIGITS = 7


def check_demos(reader: DemoReader, out: Path) -> None:
    """Check that demonstrations can be written in CALVIN's layout.

    Raises:
        DataError: If the folder exists, or the demonstrations lack what the layout needs.
    """
    if out.exists():
        raise DataError(f"{out} exists; give --out a new folder.")
    if not reader.demos:
        raise DataError(f"{reader.path} holds no demonstrations.")
    for demo, info in enumerate(reader.demos):
        lacking = [key for key in _IMAGES.values() if key not in info.arrays]
        if lacking:
            raise DataError(
                f"{info.name} of {reader.path} has no {lacking[0]}, which CALVIN's layout needs. Collect with --cameras "
                "static,gripper and the modalities rgb and depth."
            )
        for key in _NUMBERS:
            try:
                reader.read(demo, key, slice(0, 1))
            except (DataError, KeyError) as error:
                raise DataError(
                    f"{info.name} of {reader.path} has no {key}: it is not a demonstration of CALVIN that flowbench collect "
                    "made."
                ) from error


def write_calvin(reader: DemoReader, out: Path, *, split: str = "training") -> Iterator[int]:
    """Write demonstrations into a new folder, and yield the number of steps of each as it is done.

    `actions` are absolute: the target that the arm was given, position and Euler angles in the world. `rel_actions` are the
    actions that were executed, which replay exactly; upstream derives its own from the measured hand instead, which lags.

    Args:
        reader: Demonstrations that `check_demos` accepts.
        out: The folder; it appears when everything is written.
        split: `training` or `validation`, the folder's part.

    Raises:
        DataError: If something cannot be read or written.
    """
    scratch = out.with_name(out.name + ".writing")
    shutil.rmtree(scratch, ignore_errors=True)
    folder = scratch / split
    bounds, sentences, tasks, step = [], [], [], 0
    try:
        (folder / "lang_annotations").mkdir(parents=True)
        for demo, info in enumerate(reader.demos):
            bounds.append((step, step + info.steps - 1))
            sentences.append(info.instruction or "")
            tasks.append(info.task or "")
            for arrays in _steps(reader, demo):
                np.savez_compressed(folder / f"episode_{step:0{_DIGITS}d}.npz", **arrays)
                step += 1
            yield info.steps
        np.save(folder / "ep_start_end_ids.npy", np.array(bounds, dtype=np.int64))
        annotations = {
            "language": {"ann": sentences, "task": tasks},
            "info": {"episodes": [], "indx": bounds},
        }
        # A pickled dictionary in an array, as upstream's loaders unpack it: np.load(..., allow_pickle=True).item()
        np.save(folder / "lang_annotations" / "auto_lang_ann.npy", np.array(annotations, dtype=object))
        scratch.rename(out)
    except OSError as error:
        raise DataError(f"{out} could not be written: {error.strerror or error}. Nothing of it is kept.") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _steps(reader: DemoReader, demo: int) -> Iterator[dict[str, np.ndarray]]:
    """Yield what the file of each step holds."""
    numbers = {key: reader.read(demo, key, slice(None)).astype(np.float64) for key in _NUMBERS}
    relative = numbers["actions"].copy()
    # The simulator takes the sign (`flowbench.envs.calvin`); the layout has -1 and 1.
    relative[:, 6] = np.where(relative[:, 6] > 0, 1.0, -1.0)
    absolute = np.concatenate([numbers["tcp_target"] + relative[:, :6] * _STEP, relative[:, 6:]], axis=1)
    for step in range(len(relative)):
        images = {name: reader.read(demo, key, slice(step, step + 1))[0] for name, key in _IMAGES.items()}
        yield {
            "actions": absolute[step],
            "rel_actions": relative[step],
            "robot_obs": numbers["robot_obs"][step],
            "scene_obs": numbers["scene_obs"][step],
            **images,
        }
