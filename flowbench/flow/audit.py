"""How wrong flow estimators are on scenes of a suite, and where: by object size, displacement, occlusion, camera and task.

Estimators see the same pairs of images: neighbours in the eight-frame plan that a scripted expert's episode makes, or frames a
fixed number of steps apart. What they say is held against exact flow, pixel by pixel.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage
from tqdm import tqdm

from flowbench.agent import ActionChunker
from flowbench.env import EnvConfig, TaskEnv
from flowbench.flow.estimators import FlowEstimator
from flowbench.flow.pairs import MOVING, ROBOT, TARGET, VISIBLE
from flowbench.flow.sampling import MOVED_PX, pair_arrays, plan_steps
from flowbench.flow.snapshot import Snapshot, take_snapshot
from flowbench.registry import get_suite, make_agent
from flowbench.task import Scenario

#: The row that says how far things moved: an estimator that always answers "nothing moves".
STILL = "still"
#: A pixel is an outlier if it is off by more than 3 px and by more than 5 % of its displacement (KITTI 2015's Fl).
OUTLIER_PX, OUTLIER_SHARE = 3.0, 0.05
#: Upper ends of the bins, pixels of displacement and pixels of area; the last one is open.
DISPLACEMENTS_PX = (2, 5, 10, 20)
AREAS_PX = (64, 256, 1024)


@dataclass(frozen=True)
class AuditSpec:
    """What is audited.

    Attributes:
        suite: Name of the suite.
        tasks: Names of tasks.
        cameras: Camera poses.
        seeds: Scenario seeds; in suites with stored initial states also their indices.
        gap: Agent steps between the two images; 0 takes the neighbours of eight-frame plans.
        window: Side of the square in the middle of the image that is looked at; 0 takes the whole image.
        profile: Render profile.
    """

    suite: str
    tasks: tuple[str, ...]
    cameras: tuple[str, ...]
    seeds: tuple[int, ...] = (0, 1)
    gap: int = 0
    window: int = 128
    profile: str = "full"


class AuditPair(NamedTuple):
    """One pair of images with its truth.

    Attributes:
        task: Name of the task.
        camera: Camera pose.
        seed: Scenario seed.
        number: Place of the pair in its episode, from 0.
        first: uint8 (H, W, 3).
        second: uint8 (H, W, 3).
        flow_px: float32 (H, W, 2) exact flow; 0 where `usable` is not set.
        masks: uint8 (H, W), bits of `flowbench.flow.pairs`.
        objects: (H, W) object ids.
        source: Snapshot of the first, for estimators that read it.
        target: Snapshot of the second.
    """

    task: str
    camera: str
    seed: int
    number: int
    first: np.ndarray
    second: np.ndarray
    flow_px: np.ndarray
    masks: np.ndarray
    objects: np.ndarray
    source: Snapshot
    target: Snapshot


class Tally(NamedTuple):
    """Sums over the pixels of one group in one pair; additive."""

    pixels: int
    error_px: float
    outliers: int


@dataclass(frozen=True)
class Measured:
    """What one estimator did on one pair.

    Attributes:
        estimator: Its name.
        task: Name of the task.
        camera: Camera pose.
        seed: Scenario seed.
        number: Place of the pair in its episode.
        seconds: Wall time of the estimate.
        groups: Tallies by group.
        hits: Moving pixels that were said to move.
        misses: Moving pixels that were said to be still.
        alarms: Still pixels that were said to move.
    """

    estimator: str
    task: str
    camera: str
    seed: int
    number: int
    seconds: float
    groups: Mapping[str, Tally]
    hits: int
    misses: int
    alarms: int

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {**asdict(self), "groups": {name: tally._asdict() for name, tally in self.groups.items()}}


def audit(
    spec: AuditSpec, estimators: Sequence[FlowEstimator], *, keep: Any = None, progress: bool = True
) -> list[Measured]:
    """Measure estimators on every pair; `still` is always among the results.

    Args:
        spec: What to look at.
        estimators: Who is measured; one that is `privileged` gets snapshots instead of images.
        keep: Called with (pair, flows by estimator) for pictures; None for none.
        progress: Whether to show a progress bar.

    Raises:
        FlowBenchError: If the suite, a task or a camera does not exist or cannot be rendered.
    """
    measured: list[Measured] = []
    scenes = len(spec.tasks) * len(spec.seeds) * len(spec.cameras)
    with tqdm(total=scenes, unit="scene", disable=not progress, file=sys.stderr) as bar:
        for pairs in audit_pairs(spec):
            for pair in pairs:
                groups = groups_of(pair)
                flows: dict[str, np.ndarray] = {}
                for estimator in [None, *estimators]:
                    name, flow_px, seconds = _estimate(estimator, pair)
                    flows[name] = flow_px
                    measured.append(_measure(name, pair, groups, flow_px, seconds))
                if keep is not None:
                    keep(pair, flows)
            bar.update()
    return measured


def audit_pairs(spec: AuditSpec) -> Iterator[list[AuditPair]]:
    """Yield the pairs of each scene and camera."""
    suite = get_suite(spec.suite)
    expert = make_agent("scripted", {})
    for name in spec.tasks:
        config = EnvConfig(modalities=(), profile=spec.profile, lazy=True, privileged=True, image_view="geometric")
        env = TaskEnv(suite, suite.task(name), suite.rules(), config)
        try:
            for seed in spec.seeds:
                states = _states(env, expert, seed)
                steps = plan_steps(len(states)) if not spec.gap else list(range(0, len(states), spec.gap))
                for camera in spec.cameras:
                    yield _look(env, states, steps, camera, seed, spec.window)
        finally:
            env.close()


def groups_of(pair: AuditPair) -> dict[str, np.ndarray]:
    """Return the bool (H, W) groups of pixels that errors are summed over.

    `moving` and `still` divide what is seen again; `things` is what moves and is not the robot, `target` what the task is
    about, if it moves; `hidden` moves inside the image and is not seen again. Displacements divide `moving`, and areas `things`,
    by the visible pixels of the object that a pixel belongs to.
    """
    length_px = np.linalg.norm(pair.flow_px, axis=-1)
    visible = (pair.masks & VISIBLE) > 0
    moving = visible & (length_px > MOVED_PX)
    in_world = (pair.masks & MOVING) > 0
    robot = (pair.masks & ROBOT) > 0
    things = moving & in_world & ~robot
    groups = {
        "all": visible,
        "moving": moving,
        "still": visible & ~moving,
        "robot": moving & robot,
        "things": things,
        "target": things & ((pair.masks & TARGET) > 0),
        "hidden": ~visible & (length_px > MOVED_PX),
    }
    edges = (MOVED_PX, *DISPLACEMENTS_PX, np.inf)
    for low, high in zip(edges, edges[1:], strict=False):
        groups[_bin_name("moves", low, high)] = moving & (length_px > low) & (length_px <= high)
    areas = ndimage.sum_labels(things, pair.objects, np.arange(256))[np.minimum(pair.objects, 255)]
    edges = (0, *AREAS_PX, np.inf)
    for low, high in zip(edges, edges[1:], strict=False):
        groups[_bin_name("area", low, high)] = things & (areas > low) & (areas <= high)
    return groups


def group_names() -> list[str]:
    """Return every group's name, in the order of `groups_of`."""
    names = ["all", "moving", "still", "robot", "things", "target", "hidden"]
    for kind, edges in (("moves", (MOVED_PX, *DISPLACEMENTS_PX, np.inf)), ("area", (0, *AREAS_PX, np.inf))):
        names += [_bin_name(kind, low, high) for low, high in zip(edges, edges[1:], strict=False)]
    return names


def pooled(measured: Iterable[Measured], group: str) -> Tally:
    """Return the sum of a group's tallies."""
    tallies = [item.groups[group] for item in measured if group in item.groups]
    return Tally(*(sum(values) for values in zip(*tallies, strict=True))) if tallies else Tally(0, 0.0, 0)


def _bin_name(kind: str, low: float, high: float) -> str:
    return f"{kind} {low:g}-{high:g} px" if np.isfinite(high) else f"{kind} over {low:g} px"


def _states(env: TaskEnv, expert: Any, seed: int) -> list[Any]:
    init_states = env.suite.init_states
    scenario = Scenario(seed, None if init_states is None else seed % init_states)
    observation, _ = env.reset(options={"scenario": scenario})
    chunker = ActionChunker(expert)
    chunker.reset(env.task, env.cameras, seed)
    states = [env.get_state()]
    for _ in range(env.rules.horizon):
        observation, _, terminated, truncated, _ = env.step(chunker.act(observation))
        states.append(env.get_state())
        if terminated or truncated:
            break
    return states


def _look(
    env: TaskEnv, states: Sequence[Any], steps: Sequence[int], camera: str, seed: int, window: int
) -> list[AuditPair]:
    views = []
    for step in steps:
        env.set_state(states[step])
        view = take_snapshot(env, camera, rgb=True)
        height, width = view.depth_m.shape
        if window and window < min(height, width):
            view = view.crop((width - window) // 2, (height - window) // 2, window, window)
        views.append(view)
    pairs = []
    for number, (source, target) in enumerate(zip(views, views[1:], strict=False)):
        first, second, flow_px, masks, objects = pair_arrays(source, target, env.task.targets, env.task.family)
        about = (env.task.name, camera, seed, number)
        pairs.append(AuditPair(*about, first, second, flow_px, masks, objects, source, target))
    return pairs


def _estimate(estimator: FlowEstimator | None, pair: AuditPair) -> tuple[str, np.ndarray, float]:
    if estimator is None:
        return STILL, np.zeros_like(pair.flow_px), 0.0
    inputs: tuple[Any, Any] = ([pair.source], [pair.target])
    if not getattr(estimator, "privileged", False):
        inputs = (pair.first[None], pair.second[None])
    start = time.perf_counter()
    flow_px = estimator(*inputs)[0]
    return estimator.name, np.nan_to_num(flow_px), time.perf_counter() - start


def _measure(
    name: str, pair: AuditPair, groups: Mapping[str, np.ndarray], flow_px: np.ndarray, seconds: float
) -> Measured:
    error_px = np.linalg.norm(flow_px - pair.flow_px, axis=-1)
    length_px = np.linalg.norm(pair.flow_px, axis=-1)
    outlier = (error_px > OUTLIER_PX) & (error_px > OUTLIER_SHARE * length_px)
    tallies = {
        group: Tally(int(mask.sum()), round(float(error_px[mask].sum()), 4), int(outlier[mask].sum()))
        for group, mask in groups.items()
        if mask.any()
    }
    said = np.linalg.norm(flow_px, axis=-1) > MOVED_PX
    moving, visible = groups["moving"], groups["all"]
    counts = (said & moving, ~said & moving, said & ~moving & visible)
    hits, misses, alarms = (int(mask.sum()) for mask in counts)
    return Measured(
        name, pair.task, pair.camera, pair.seed, pair.number, round(seconds, 6), tallies, hits, misses, alarms
    )
