"""The iTHOR suites as data: AVDC's twelve targets in four rooms, by what answers in place of AI2-THOR's player.

`ithor12` is the benchmark; an evaluation names what it runs on (`--backend`), and each answer is a suite of its own, so that
the backend is part of every episode id, file name and table:

- `ithor12-unity`: AI2-THOR's own player, the real thing.
- `ithor12-standin`: FlowBench's player in procedural rooms. Another world: its numbers say nothing about iTHOR.
- `ithor12-recorded`: the same player in rooms blocked out from recorded metadata of the real ones. Another world, too.

Proprioception, float32 (2,): how far the camera looks down, in degrees, and whether the last action had an effect (1 or 0): a
step that is blocked changes nothing. The pose is calibration (`extrinsic_cv`); the world is right-handed with z up, x and y
being Unity's x and z.

Segmentation is by object type: all objects of a type share an id, and `task.targets` names the type that is looked for.

Besides the twelve, every task `FloorPlan<n>-<ObjectType>` of iTHOR's 120 rooms exists, e.g. `FloorPlan7-Microwave`.

Importing this module needs no simulator.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import NamedTuple

from flowbench.suite import Suite
from flowbench.task import DONE, ActionSpec, ProtocolRules, Task

#: AVDC's actions, in the order of its code (`experiment/myutils_thor.py` of AVDC_experiments at e9b5b00).
ACTIONS = ("MoveAhead", "RotateRight", "RotateLeft", DONE)
ACTION_SPEC = ActionSpec.choice("ithor-navigation", ACTIONS)

#: AVDC's rooms and what is looked for in each (arXiv 2310.08576, appendix; `experiment/benchmark_thor.py`).
AVDC_TARGETS = {
    "FloorPlan1": ("Toaster", "Spatula", "Bread"),
    "FloorPlan201": ("Painting", "Laptop", "Television"),
    "FloorPlan301": ("Blinds", "DeskLamp", "Pillow"),
    "FloorPlan401": ("Mirror", "ToiletPaper", "SoapBar"),
}
_SCENE_OF = {target: scene for scene, targets in AVDC_TARGETS.items() for target in targets}
_OTHER_TASK = re.compile(r"(?P<scene>FloorPlan(?P<number>\d+))-(?P<type>[A-Z][A-Za-z0-9]*)")
#: iTHOR's rooms: kitchens, living rooms, bedrooms, bathrooms.
_NUMBERS = frozenset(start + number for start in (0, 200, 300, 400) for number in range(1, 31))

_SOURCE = "arXiv 2310.08576 and AVDC_experiments at e9b5b00"

#: The task without AVDC's slips: the target is an object type, and any object of it counts.
CLEAN = ProtocolRules(
    name="clean",
    horizon=50,
    success_rule="at_end",
    initial_states="clean",
    episodes=20,
    source=f"{_SOURCE}, with the target by object type",
)

#: AVDC's own: the target is the first object in whose name its word occurs, and is remembered by its place in the list.
AVDC = ProtocolRules(
    name="avdc",
    horizon=50,
    success_rule="at_end",
    initial_states="avdc",
    episodes=20,
    source=f"{_SOURCE}, on ai2thor 5.0.0 instead of 4.0.0",
)


class Goal(NamedTuple):
    """What a task asks for.

    Attributes:
        scene: E.g. `"FloorPlan1"`.
        target: Object type, e.g. `"Toaster"`.
    """

    scene: str
    target: str


def goal_of(task_name: str) -> Goal | None:
    """Return the goal of a task's name, e.g. `Toaster` or `FloorPlan7-Microwave`; None if it is not of that form."""
    if task_name in _SCENE_OF:
        return Goal(_SCENE_OF[task_name], task_name)
    match = _OTHER_TASK.fullmatch(task_name)
    return Goal(match["scene"], match["type"]) if match and int(match["number"]) in _NUMBERS else None


@dataclass(frozen=True)
class IthorSuite(Suite):
    """A suite that also has a task for every room and object type."""

    def task(self, name: str) -> Task:
        """Return a task by name; whether its room has such an object is known when it is reset.

        Raises:
            UnknownName: With the nearest name.
        """
        goal = goal_of(name)
        if goal is None or name in _SCENE_OF:
            return super().task(name)
        return _task(self.name, name, goal.target)


def _task(suite: str, name: str, target: str) -> Task:
    # AVDC's sentence is the object's name as AI2-THOR spells it.
    return Task(suite, "ithor", name, target, ACTION_SPEC, targets=(target,))


ITHOR12 = IthorSuite(
    name="ithor12",
    family="ithor",
    tasks=tuple(_task("ithor12", target, target) for target in _SCENE_OF),
    protocols={"clean": CLEAN, "avdc": AVDC},
    views=("agent",),
    default_view="agent",
    image_size=(64, 64),
    simulator="flowbench.envs.ithor.simulator:IthorSimulator",
    requires=("ai2thor", "mujoco"),
    extra="ithor",
    describe_renderer="flowbench.envs.ithor.players:describe_auto",
    # Time passes in actions only.
    control_hz=1.0,
    backends={name: f"ithor12-{name}" for name in ("unity", "standin", "recorded")},
)


def _on(backend: str, **changes: object) -> IthorSuite:
    name = ITHOR12.backends[backend]
    return replace(
        ITHOR12,
        name=name,
        tasks=tuple(replace(task, suite=name) for task in ITHOR12.tasks),
        simulator=f"flowbench.envs.ithor.simulator:{backend.capitalize()}Simulator",
        describe_renderer=f"flowbench.envs.ithor.players:describe_{backend}",
        backends={},
        **changes,
    )


ITHOR12_UNITY = _on("unity", requires=("ai2thor",), setup_check="flowbench.envs.ithor.setup:missing")

ITHOR12_STANDIN = _on(
    "standin",
    fingerprints="flowbench.envs.ithor:fingerprints.json",
    caveat="another world: FlowBench's stand-in player and procedural rooms, not iTHOR",
)

ITHOR12_RECORDED = _on(
    "recorded",
    requires=("ai2thor", "mujoco", "procthor"),
    extra="ithor-recorded",
    fingerprints="flowbench.envs.ithor:fingerprints.json",
    caveat="another world: FlowBench's stand-in player in boxes where iTHOR's objects are, not iTHOR",
)
