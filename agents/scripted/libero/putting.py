"""The goals `On` and `In`: pick the object, and put it where the predicate wants it.

The kind of place decides how: an object below, a zone of the table, a drawer, a container, a slot, a microwave.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from flowbench.agents.scripted.libero import drawers, microwaves
from flowbench.agents.scripted.libero.hand import about_z, wrap
from flowbench.agents.scripted.libero.inserting import insert, is_covered, stands_too_high
from flowbench.agents.scripted.libero.motion import Arm, Steps
from flowbench.agents.scripted.libero.picking import Wish, pick
from flowbench.agents.scripted.libero.placing import Placement, place
from flowbench.agents.scripted.libero.scene import Region, Scene

Goal = tuple[str, ...]
PutInto = Callable[[Arm, Goal, Region], Steps[None]]


def put(arm: Arm, goal: Goal) -> Steps[None]:
    """Reach an `On` or `In` goal."""
    scene = arm.scene
    _, name, target = goal
    if not scene.is_region(target):
        if (yield from _hold(arm, name, Wish(destination=scene.position(target)))):
            yield from place(arm, Placement(scene.position(target)[:2]))
        return
    region = scene.region(target)
    kind = _kind_of(scene, region)
    if kind == "drawer" and not drawers.is_open(scene, target):
        yield from drawers.open_drawer(arm, target, drawers.OPEN_ENOUGH_TO_FILL_M)
    tried_before = goal in arm.tried
    arm.tried.add(goal)
    if (
        (kind == "drawer" and stands_too_high(scene, region, name))
        or (goal[0] == "in" and kind == "surface" and is_covered(scene, region))
        or (kind == "slot" and tried_before)
    ):
        yield from insert(arm, goal, scene.region(target))
        return
    if (yield from _hold(arm, name, _wish(scene, region, kind, name))):
        yield from _PUT[kind](arm, goal, scene.region(target))


def _hold(arm: Arm, name: str, wish: Wish) -> Steps[bool]:
    if arm.held is not None and arm.held.name == name:
        return True
    if arm.held is not None:
        yield from arm.release()
    return (yield from pick(arm, name, wish))


def _kind_of(scene: Scene, region: Region) -> str:
    """Return the kind of place, a key of `_PUT`."""
    if region.joint:
        return "drawer"
    category = region.parent.rstrip("_0123456789")
    if category == "desk_caddy":
        return "slot"
    if category in ("basket", "microwave", "wine_rack"):
        return category
    return "surface"


def _wish(scene: Scene, region: Region, kind: str, name: str) -> Wish:
    if kind == "drawer":
        outward = drawers.find_handle(scene, region.name).outward
        # Fingers that close across the drawer leave its narrow direction free.
        return Wish(bonus=lambda grasp: -1.5 * abs(grasp.rotation[:2, 0] @ outward[:2]), destination=region.position)
    if kind == "microwave":
        return microwaves.grasp_for_microwave(scene, region, name)
    return Wish(destination=region.position)


def _share_of_region(scene: Scene, goal: Goal, spacing: float) -> np.ndarray:
    """Return the (2,) shift from a region's middle that leaves room for the other goals' objects.

    Two objects stand side by side along the narrow side of this one.

    Args:
        scene: The scene.
        goal: The goal.
        spacing: Distance of each from the middle, metres.
    """
    sharing = [other[1] for other in scene.goals() if other[0] == goal[0] and other[2:] == goal[2:]]
    if len(sharing) < 2:
        return np.zeros(2)
    extent = np.ptp(scene.points(goal[1], 0.006), axis=0)
    axis = np.array([1.0, 0]) if extent[0] < extent[1] else np.array([0, 1.0])
    return axis * spacing * (-1) ** sharing.index(goal[1])


def _put_on_surface(arm: Arm, goal: Goal, region: Region) -> Steps[None]:
    shift = _share_of_region(arm.scene, goal, 0.043)
    yield from place(arm, Placement(region.position[:2] + shift))


def _put_into_basket(arm: Arm, goal: Goal, region: Region) -> Steps[None]:
    scene = arm.scene
    low_enough = region.position[2] + 0.055

    def done() -> bool:
        return scene.holds(goal) and bool(scene.position(goal[1])[2] < low_enough)

    shift = _share_of_region(scene, goal, 0.03)
    yield from place(arm, Placement(region.position[:2] + shift, done, root_z=region.position[2] - 0.02))


def _put_into_drawer(arm: Arm, goal: Goal, region: Region) -> Steps[None]:
    outward = drawers.find_handle(arm.scene, region.name).outward
    across = np.cross(outward, [0, 0, 1.0])
    offsets = [
        out * outward[:2] + side * across[:2]
        for out in (0, 0.01, 0.02, 0.03, 0.035)
        for side in (0, 0.02, -0.02, 0.035, -0.035)
    ]
    yield from place(arm, Placement(region.position[:2], offsets=offsets))
    if ("close", region.name) in arm.scene.goals():
        yield from drawers.press_flat(arm, goal[1], outward)


def _put_on_rack(arm: Arm, goal: Goal, region: Region) -> Steps[None]:
    scene = arm.scene
    yield from place(arm, Placement(region.position[:2] - [0, 0.003], lambda: scene.holds(goal)))


def _put_into_slot(arm: Arm, goal: Goal, region: Region) -> Steps[None]:
    """Lower a flat object upright into a compartment, its thin side along the compartment's short one."""
    scene, name = arm.scene, goal[1]
    points = scene.points(name, 0.004)[:, :2]
    centered = points - points.mean(axis=0)
    axes = np.linalg.eigh(centered.T @ centered)[1]  # Thin side first.
    thin = float(np.arctan2(axes[1, 0], axes[0, 0]))
    short = 0.0 if region.half_size[0] < region.half_size[1] else np.pi / 2
    turn = wrap(2 * (short - thin)) / 2
    along = centered @ axes
    middle = points.mean(axis=0) + axes @ ((along.min(axis=0) + along.max(axis=0)) / 2)
    root_from_middle = about_z(turn)[:2, :2] @ (scene.position(name)[:2] - middle)
    root_z = region.position[2] - 0.02
    lowest = root_z + float(scene.points(name, 0.006)[:, 2].min() - scene.position(name)[2])
    walls_top = float(scene.points(region.parent, 0.01)[:, 2].max())
    yield from place(
        arm,
        Placement(
            region.position[:2] + root_from_middle,
            root_z=root_z,
            turn_rad=turn,
            # The walls forgive nothing: what is off its course is brought back above them.
            hover_m=walls_top - lowest + 0.01,
        ),
    )


_PUT: dict[str, PutInto] = {
    "surface": _put_on_surface,
    "basket": _put_into_basket,
    "drawer": _put_into_drawer,
    "wine_rack": _put_on_rack,
    "slot": _put_into_slot,
    "microwave": microwaves.put_into_microwave,
}
