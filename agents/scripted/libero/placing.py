"""Setting things down: predict the height of first contact from height maps, then descend with feedback of the real pose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from flowbench.agents.scripted.libero.hand import about_z
from flowbench.agents.scripted.libero.motion import Arm, Steps

_CELL_M = 0.006
#: The hand stops this far above the predicted contact before the slow descent, metres.
_HOVER_M = 0.04


@dataclass(frozen=True)
class Placement:
    """Where the held object goes.

    Attributes:
        root_xy: (2,) its root, world metres.
        done: Ends the descent early, e.g. when the goal's predicate holds.
        offsets: (2,) shifts of `root_xy` that are as good; the lowest, nearest one is taken.
        turn_rad: Turn about the vertical on the way.
        root_z: Height of the root at which the descent ends; None to find it from the geometry.
        hover_m: Height above the end of the descent to which the object is carried, metres.
        retreat: (3,) shift of the hand after letting go, metres.
        without: Objects that do not count as obstacles.
    """

    root_xy: np.ndarray
    done: Callable[[], bool] | None = None
    offsets: Sequence[np.ndarray] = (np.zeros(2),)
    turn_rad: float = 0.0
    root_z: float | None = None
    hover_m: float = _HOVER_M
    retreat: np.ndarray | None = None
    without: tuple[str, ...] = ()


def place(arm: Arm, placement: Placement) -> Steps[bool]:
    """Carry the held object, set it down and let go.

    Returns:
        False if it was lost on the way.
    """
    held, scene = arm.held, arm.scene
    assert held is not None
    hand = scene.hand()
    rotation = about_z(placement.turn_rad) @ hand.rotation if placement.turn_rad else hand.rotation
    root_from_hand = rotation @ held.root_in_hand
    shape = (scene.points(held.name, 0.004) - hand.position) @ hand.rotation @ rotation.T  # around the hand
    hang_m = float(-shape[:, 2].min())

    obstacles = scene.obstacles([held.name, *placement.without], 0.005)
    options = []
    for offset in placement.offsets:
        xy = np.asarray(placement.root_xy) + offset
        height = contact_height(shape, xy - root_from_hand[:2], obstacles)
        height = scene.support_z + hang_m if height is None else height
        options.append((height + 0.15 * float(np.linalg.norm(offset)), height, xy))
    _, hand_z, root_xy = min(options, key=lambda option: option[0])
    if placement.root_z is not None:
        hand_z = placement.root_z - root_from_hand[2]

    hover = np.array([*(root_xy - root_from_hand[:2]), hand_z + placement.hover_m])
    yield from arm.travel(hover, rotation, hang_m=hang_m, without=[held.name], within_m=0.015, until=placement.done)
    if not scene.is_gripped(held.name):
        yield from arm.release()
        return False
    for _ in range(2):
        if placement.done is not None and placement.done():
            break
        error = root_xy - scene.position(held.name)[:2]
        if np.linalg.norm(error) < 0.006:
            break
        corrected = np.array([*(scene.hand().position[:2] + error), hover[2]])
        yield from arm.go_to(corrected, rotation, within_m=0.006, within_rad=0.2, most_steps=15)
    yield from _descend(arm, placement, rotation, root_xy, hand_z)
    yield from arm.release(placement.retreat)
    return True


def _descend(arm: Arm, placement: Placement, rotation: np.ndarray, root_xy: np.ndarray, hand_z: float) -> Steps[None]:
    """Come down while the error of the object's root is fed back; stop on success, on contact near the end, or when blocked."""
    scene, name = arm.scene, arm.held.name
    command_z = scene.hand().position[2]
    lowest, waited = command_z, 0
    for _ in range(60):
        position = scene.hand().position
        error = root_xy - scene.position(name)[:2]
        error *= min(1.0, 0.012 / max(float(np.linalg.norm(error)), 1e-9))
        descent = 0.008 if position[2] > hand_z + 0.02 else 0.0035
        command_z = max(command_z - descent, position[2] - 0.02, hand_z - 0.02)
        if placement.done is not None and placement.done():
            return
        if position[2] < hand_z + 0.005 and scene.touching(name):
            return
        if position[2] < lowest - 0.001:
            lowest, waited = position[2], 0
        else:
            waited += 1
            if waited > 7:
                return
        yield arm.towards(np.array([*(position[:2] + error), command_z]), rotation, speed=0.6)


def contact_height(shape: np.ndarray, hand_xy: np.ndarray, obstacles: np.ndarray) -> float | None:
    """Return the height of the hand at which a held shape first touches what is below it.

    Args:
        shape: (N, 3) points of the held object relative to the hand, world axes.
        hand_xy: (2,) where the hand would be.
        obstacles: (M, 3) world points.

    Returns:
        World metres; None if there is nothing below.
    """
    footprint = shape[:, :2] + hand_xy
    low = footprint.min(axis=0)
    size = ((footprint.max(axis=0) - low) / _CELL_M).astype(int) + 1
    underside = np.full(size, np.inf)
    cells = ((footprint - low) / _CELL_M).astype(int)
    falling = np.argsort(-shape[:, 2], kind="stable")  # The lowest point of a cell is written last.
    underside[cells[falling, 0], cells[falling, 1]] = shape[falling, 2]

    cells = np.floor((obstacles[:, :2] - low) / _CELL_M).astype(int)
    inside = ((cells >= 0) & (cells < size)).all(axis=1)
    gaps = obstacles[inside, 2] - underside[cells[inside, 0], cells[inside, 1]]
    gaps = gaps[np.isfinite(gaps)]
    return float(gaps.max()) if len(gaps) else None
