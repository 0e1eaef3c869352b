"""Picking something up, checked: a grasp counts when both fingers touch and the object has left its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.spatial import cKDTree

from flowbench.agents.scripted.libero.grasps import Grasp, Problem, plan_grasps
from flowbench.agents.scripted.libero.hand import leaning
from flowbench.agents.scripted.libero.motion import OPEN, Arm, Held, Steps
from flowbench.agents.scripted.libero.scene import Scene

#: An object that rose by less than this was not lifted, metres.
_LIFTED_M = 0.012
_APPROACH_M = 0.06
#: Largest component of the action while lifting; what hangs in thin fingers slips when it is jerked.
_LIFT_SPEED = 0.8
# The Panda's measures (Franka's Denavit-Hartenberg parameters): the wrist's centre is 88 mm nearer than a hand that points
# down and about 200 mm above the grip site, the shoulder 333 mm above the base. Upper and lower arm end at 0.70 m, and the
# straight elbow is already stuck at 0.68 m.
_WRIST_BEHIND_HAND_M, _WRIST_ABOVE_HAND_M, _SHOULDER_HEIGHT_M = 0.088, 0.20, 0.333
_EASY_REACH_M = 0.63


class Wish:
    """What the rest of the task wants from a grasp.

    Attributes:
        bonus: Added to a grasp's score.
        yaws: Only these closing directions, radians; None for all.
        lean: (direction, angle): the hand leans over by `angle` radians towards a horizontal (3,) direction.
        lift_m: How far it is lifted before the grip is judged.
        destination: (3,) where the object's root will go, world metres; grasps that leave it in reach are preferred.
    """

    def __init__(
        self,
        bonus: Callable[[Grasp], float] = lambda grasp: 0.0,
        yaws: Sequence[float] | None = None,
        lean: tuple[np.ndarray, float] | None = None,
        lift_m: float = 0.08,
        destination: np.ndarray | None = None,
    ) -> None:
        self.bonus = bonus
        self.yaws = yaws
        self.lean = lean
        self.lift_m = lift_m
        self.destination = destination


def pick(arm: Arm, name: str, wish: Wish | None = None, tries: int = 4) -> Steps[bool]:
    """Pick an object up; a grasp that fails is not tried again.

    Returns:
        Whether it is in the hand.
    """
    wish = wish or Wish()
    for _ in range(tries):
        grasp = choose_grasp(arm, name, wish)
        if grasp is None:
            arm.banned.pop(name, None)
            yield from arm.wait(5)
            continue
        if (yield from _take(arm, name, grasp, wish)):
            return True
    return False


def choose_grasp(arm: Arm, name: str, wish: Wish) -> Grasp | None:
    """Return the best grasp that has not failed yet."""
    scene = arm.scene
    problem = Problem(
        scene.points(name, 0.003), scene.obstacles([name], 0.006), scene.center_of_mass(name), scene.support_z
    )
    root, base = scene.position(name), scene.robot_base()

    def bonus(grasp: Grasp) -> float:
        places = [grasp.position]
        if wish.destination is not None:
            places.append(wish.destination + grasp.position - root)
        return wish.bonus(grasp) - max(reach_cost(place - base) for place in places)

    grasps = plan_grasps(problem, wish.yaws, bonus)
    for grasp in grasps:
        here = Grasp(grasp.position - root, grasp.rotation, grasp.yaw, grasp.width, grasp.score)
        if not any(here.resembles(failed, 0.012, 0.2) for failed in arm.banned.get(name, [])):
            return grasp
    return None


def reach_cost(hand_from_base: np.ndarray) -> float:
    """Return what a place far from the arm costs a grasp; 0 where the arm, hand pointing down, reaches easily.

    Args:
        hand_from_base: (3,) grip site relative to the robot's base, metres.
    """
    wrist_out = float(np.hypot(*hand_from_base[:2])) - _WRIST_BEHIND_HAND_M
    wrist_up = hand_from_base[2] + _WRIST_ABOVE_HAND_M - _SHOULDER_HEIGHT_M
    return 15 * max(0.0, float(np.hypot(wrist_out, wrist_up)) - _EASY_REACH_M)


def _take(arm: Arm, name: str, grasp: Grasp, wish: Wish) -> Steps[bool]:
    scene = arm.scene
    rotation = grasp.rotation if wish.lean is None else leaning(*wish.lean) @ grasp.rotation
    arm.gripper = OPEN
    yield from arm.travel(grasp.position - rotation[:, 2] * _APPROACH_M, rotation)
    root_before = scene.position(name)
    yield from arm.go_to(grasp.position, rotation, within_m=0.004, within_rad=0.05, most_steps=30, patience=8)
    yield from arm.close()

    height_before, hand = scene.position(name)[2], scene.hand()
    way_out = direction_out_from_under(scene, name)
    if way_out is not None:
        yield from arm.go_to(
            hand.position + [*(way_out * 0.3), 0.012],
            rotation,
            within_m=0.01,
            within_rad=0.3,
            most_steps=15,
            speed=0.3,
            patience=5,
        )
        yield from arm.go_to(
            hand.position + [*way_out, 0.015],
            rotation,
            within_m=0.01,
            within_rad=0.3,
            most_steps=30,
            speed=0.4,
            patience=5,
        )
        hand = scene.hand()
    yield from arm.go_to(
        hand.position + [0, 0, wish.lift_m], rotation, within_m=0.02, within_rad=0.3, most_steps=30, speed=_LIFT_SPEED
    )
    if scene.position(name)[2] - height_before > _LIFTED_M and scene.is_gripped(name):
        hand = scene.hand()
        arm.held = Held(name, hand.rotation.T @ (scene.position(name) - hand.position))
        return True

    failed = Grasp(grasp.position - root_before, grasp.rotation, grasp.yaw, grasp.width, grasp.score)
    arm.banned.setdefault(name, []).append(failed)
    yield from arm.open(8)
    yield from arm.move_by(np.array([0, 0, 0.08]), most_steps=20)
    return False


def direction_out_from_under(scene: Scene, name: str) -> np.ndarray | None:
    """Return the (2,) shift in metres that frees the column above an object; None if nothing hangs over it."""
    points = scene.points(name, 0.006)
    above = scene.obstacles([name], 0.008)
    above = above[above[:, 2] > points[:, 2].max() - 0.004]
    if not len(above):
        return None
    tree = cKDTree(above[:, :2])
    outline = points[::3, :2]
    if tree.query(outline)[0].min() > 0.005:
        return None
    for distance in np.arange(0.02, 0.2, 0.015):
        for angle in np.arange(16) * np.pi / 8:
            shift = distance * np.array([np.cos(angle), np.sin(angle)])
            if tree.query(outline + shift)[0].min() > 0.018:
                return shift
    return None
