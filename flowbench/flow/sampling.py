"""How pairs for flow networks are drawn from a simulated scene.

An expert, sometimes a clumsy one, acts in the scene; then the scene is looked at from somewhere near one of its cameras, as a
planner sees it: in plans of eight frames (a gap of a seventh of an episode), and from close by in time. Where an action is one
of a few, plans have a frame for every action. What is kept of each pair is a window, mostly around something that moves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from flowbench.agent import ActionChunker, Agent
from flowbench.camera import CameraOffset, CameraPose
from flowbench.env import EnvState, TaskEnv
from flowbench.errors import CameraError
from flowbench.flow.exact import exact_flow
from flowbench.flow.pairs import MOVING, ROBOT, TARGET, VISIBLE, PairInfo, Pairs
from flowbench.flow.robots import robot_mask
from flowbench.flow.snapshot import Snapshot, take_snapshot
from flowbench.task import DONE, ActionSpec, Scenario

#: Frames of a plan (arXiv 2310.08576, section 3.1: the first and seven imagined ones).
PLAN_FRAMES = 8
#: Gaps in agent steps of the pairs that are close in time; a camera that rides on the hand soon sees something else.
NEAR_GAPS = (1, 2, 3, 5, 8, 12)
MOUNTED_GAPS = (1, 2, 3)
#: A point moved in the world if by more than this; what rests on a robot's table trembles by less.
MOVED_M = 0.002
#: A pixel moved in the picture if by more than this many pixels.
MOVED_PX = 0.5
#: Flow beyond this is out of any window, and of no use.
_LARGEST_PX = 1000.0


@dataclass(frozen=True)
class SamplingSpec:
    """What is drawn from a scene.

    Attributes:
        views_per_scene: Camera poses from which a scene is looked at.
        near_pairs: Pairs per view that are close in time, beside the seven of a plan.
        windows_per_pair: Windows cut out of a pair of a plan; a rendered frame is the expensive part.
        window: Side of the square windows in pixels; images that are smaller are enlarged.
        clumsy: Share of the scenes in which the expert's actions are disturbed, so that other states are seen, too.
        displaced: Share of the looks from a displaced pose.
        reduced: Share of the windows that are cut out larger and shrunk to `window`, which makes objects smaller.
        full_profile: Share of the scenes in the `full` render profile; the others, in `fast`, have no shadows.
        most_steps: Episodes end here.
    """

    views_per_scene: int = 2
    near_pairs: int = 4
    windows_per_pair: int = 2
    window: int = 128
    clumsy: float = 0.4
    displaced: float = 0.6
    reduced: float = 0.3
    full_profile: float = 0.25
    most_steps: int = 300


def sample_scene(
    env: TaskEnv,
    expert: Agent,
    seed: int,
    views: Sequence[str],
    spec: SamplingSpec,
    rng: np.random.Generator,
    poses: Sequence[str] = (),
) -> tuple[Pairs, list[PairInfo]]:
    """Act in a scene and look at it.

    Args:
        env: A privileged, lazy environment of the task; its cameras do not matter.
        expert: Who acts.
        seed: Scenario seed; sampled starts in suites with stored initial states.
        views: Names of cameras to choose from.
        spec: What to draw.
        rng: The source of randomness.
        poses: Camera poses to look from instead of random ones.
    """
    states = _act(env, expert, seed, spec, rng)
    kept: list[tuple[np.ndarray, ...]] = []
    infos: list[PairInfo] = []
    for camera in poses or [_draw_pose(env, views, spec, rng) for _ in range(spec.views_per_scene)]:
        mounted = env.simulator.view(CameraPose.parse(camera).view).mounted
        if env.task.action_spec.choices:
            planned, near = _walk_steps(len(states), rng), []
        else:
            planned = [] if mounted else _plan_steps(len(states), rng)
            near = _near_steps(len(states), planned, spec.near_pairs, rng)
        pairs = [(*pair, True) for pair in zip(planned, planned[1:], strict=False)]
        pairs += [(*pair, False) for pair in near]
        seen: dict[int, Snapshot] = {}
        for first, second, is_plan in pairs:
            if rng.random() < 0.4:
                first, second = second, first
            for step in (first, second):
                if step not in seen:
                    env.set_state(states[step])
                    seen[step] = take_snapshot(env, camera, rgb=True)
            whole = pair_arrays(seen[first], seen[second], env.task.targets, env.task.family)
            # Two windows of an image that is no larger than they are would be the same.
            several = is_plan and spec.window < min(whole[0].shape[:2])
            for _ in range(spec.windows_per_pair if several else 1):
                window = _draw_window(whole, spec, rng)
                if window is None:
                    continue
                scale, arrays = window
                kept.append(arrays)
                about = (env.suite.name, env.task.name, seed, camera, env.config.profile)
                infos.append(PairInfo(*about, second - first, is_plan, scale))
    shape = (len(kept), spec.window, spec.window)
    if not kept:
        empty = (np.zeros((*shape, *rest), kind) for rest, kind in _LAYOUT)
        return Pairs(*empty), infos
    return Pairs(*(np.stack(column) for column in zip(*kept, strict=True))), infos


#: Trailing shape and type of the arrays of `Pairs`.
_LAYOUT = (((3,), np.uint8), ((3,), np.uint8), ((2,), np.float16), ((), np.uint8), ((), np.uint8))


def pair_arrays(first: Snapshot, second: Snapshot, targets: Sequence[str], family: str) -> tuple[np.ndarray, ...]:
    """Return the arrays of one pair in the order of `Pairs`, of the whole image, with float32 flow.

    Both snapshots have their picture.
    """
    flow = exact_flow(first, second)
    flow_px = flow.flow_px
    usable = np.all(np.abs(np.nan_to_num(flow_px, nan=np.inf)) < _LARGEST_PX, axis=-1)
    names = [name for name in targets if name in first.segmentation_names.values()]
    masks = VISIBLE * (flow.visible & usable)
    masks = masks | MOVING * (np.linalg.norm(flow.scene_flow_m, axis=-1) > MOVED_M)
    masks = masks | TARGET * first.mask(*names) | ROBOT * robot_mask(first, family)
    kept_px = np.where(usable[..., None], flow_px, 0)
    return first.rgb, second.rgb, kept_px, masks.astype(np.uint8), np.minimum(first.segmentation, 255).astype(np.uint8)


def plan_steps(length: int, start: int = 0) -> list[int]:
    """Return the steps of the frames of a plan through states `start` to `length` - 1.

    AVDC's own rule (`sample_n_frames` of AVDC_experiments): frame i is at i L / 7 rounded down, and the last state ends it.
    """
    span = length - start
    count = PLAN_FRAMES - 1
    return [start + index * span // count for index in range(count)] + [length - 1]


def _act(env: TaskEnv, expert: Agent, seed: int, spec: SamplingSpec, rng: np.random.Generator) -> list[EnvState]:
    observation, _ = env.reset(options={"scenario": Scenario(seed)})
    chunker = ActionChunker(expert)
    chunker.reset(env.task, env.cameras, seed)
    make = _slips if env.task.action_spec.choices else _drifts
    disturbed = make(env.task.action_spec, rng.random() < spec.clumsy, rng)
    states = [env.get_state()]
    for _ in range(min(spec.most_steps, env.rules.horizon)):
        observation, _, terminated, truncated, _ = env.step(disturbed(chunker.act(observation)))
        states.append(env.get_state())
        if terminated or truncated:
            break
    return states


def _drifts(spec: ActionSpec, clumsy: bool, rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    """Return what a hand that is not quite its own makes of a wanted action."""
    low, high = np.array(spec.low), np.array(spec.high)
    noise = rng.uniform(0.1, 0.5) * (high - low) / 2 if clumsy else 0.0
    drift = np.zeros(len(low))

    def disturbed(action: np.ndarray) -> np.ndarray:
        # Disturbances that last some steps go somewhere; white noise trembles on the spot.
        drift[:] = 0.8 * drift + 0.6 * rng.standard_normal(len(low))
        return np.clip(action + noise * drift, low, high)

    return disturbed


def _slips(spec: ActionSpec, clumsy: bool, rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    """Return what an absent mind makes of a wanted choice: sometimes any other, but never the end."""
    others = [number for number, name in enumerate(spec.choices) if name != DONE]
    chance = rng.uniform(0.2, 0.6) if clumsy else 0.0
    return lambda action: np.array([float(rng.choice(others))]) if rng.random() < chance else action


def _walk_steps(length: int, rng: np.random.Generator) -> list[int]:
    """Return the steps of a plan where each action is one of a few: consecutive ones (AVDC's iTHOR videos have stride 1)."""
    start = int(rng.integers(max(1, length - PLAN_FRAMES + 1)))
    return list(range(start, min(start + PLAN_FRAMES, length)))


def _plan_steps(length: int, rng: np.random.Generator) -> list[int]:
    """Plans start at the beginning, or later as replanning does; near the end nothing would move."""
    return plan_steps(length, int(rng.integers(length // 2)) if length > 2 * PLAN_FRAMES and rng.random() < 0.4 else 0)


def _near_steps(length: int, planned: Sequence[int], count: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Draw pairs that are close in time; they start at frames of the plan, which are rendered anyway."""
    pairs = []
    for _ in range(count):
        gap = min(int(rng.choice(NEAR_GAPS if planned else MOUNTED_GAPS)), length - 1)
        starts = [step for step in planned if step + gap < length] or range(length - gap)
        first = int(rng.choice(starts))
        pairs.append((first, first + gap))
    return pairs


def _draw_pose(env: TaskEnv, views: Sequence[str], spec: SamplingSpec, rng: np.random.Generator) -> str:
    """Draw a camera, displaced or not, that stands free."""
    for _ in range(20):
        view = str(rng.choice(list(views)))
        if rng.random() >= spec.displaced:
            return view
        mounted = env.simulator.view(view).mounted
        limits = {"x": 0.08, "y": 0.08, "z": 0.12, "yaw": 4, "pitch": 4, "roll": 8, "fovy": 5}
        limits |= {} if mounted else {"az": 25, "el": 12}
        offsets = (CameraOffset(kind, round(float(rng.uniform(-most, most)), 3)) for kind, most in limits.items())
        pose = CameraPose(view, tuple(offsets))
        try:
            camera = pose.apply(env.simulator.view(view), env.simulator.workspace_center_world, *env.image_size)
        except CameraError:
            continue
        if env.simulator.enclosing_object(camera.camera_to_world[:3, 3]) is None:
            return str(pose)
    return view


def _draw_window(
    arrays: tuple[np.ndarray, ...], spec: SamplingSpec, rng: np.random.Generator
) -> tuple[float, tuple[np.ndarray, ...]] | None:
    """Return the scale and the arrays of a window; None where nothing moves (but for one in twenty)."""
    masks = arrays[3]
    height, width = masks.shape
    largest = min(height, width)
    side = min(spec.window, largest)
    if rng.random() < spec.reduced:
        side = int(rng.integers(side, largest + 1))
    moving = (np.linalg.norm(arrays[2], axis=-1) > MOVED_PX) & ((masks & VISIBLE) > 0)
    things = moving & ((masks & MOVING) > 0) & ((masks & ROBOT) == 0)
    around = things if things.sum() >= 12 and rng.random() < 0.6 else moving
    left, top = (width - side) // 2, (height - side) // 2
    if around.any() and rng.random() < 0.8:
        row, column = np.argwhere(around)[rng.integers(around.sum())]
        jitter = rng.integers(-side // 3, side // 3 + 1, 2)
        left = int(np.clip(column - side // 2 + jitter[0], 0, width - side))
        top = int(np.clip(row - side // 2 + jitter[1], 0, height - side))
    window = (slice(top, top + side), slice(left, left + side))
    if moving[window].sum() < 40 and rng.random() > 0.05:
        return None
    first, second, flow_px, masks, objects = _shrink(tuple(array[window] for array in arrays), spec.window)
    return spec.window / side, (first, second, flow_px.astype(np.float16), masks, objects)


def _shrink(arrays: tuple[np.ndarray, ...], size: int) -> tuple[np.ndarray, ...]:
    """Resize a square pair: pictures by area, and everything else by the pixel at the centre."""
    side = arrays[0].shape[0]
    if side == size:
        return arrays
    import cv2

    way = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
    first, second = (cv2.resize(image, (size, size), interpolation=way) for image in arrays[:2])
    centre = np.minimum(((np.arange(size) + 0.5) * side / size).astype(int), side - 1)
    flow_px, masks, objects = (array[centre][:, centre] for array in arrays[2:])
    return first, second, flow_px * (size / side), masks, objects
