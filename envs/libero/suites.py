"""The LIBERO suites as data: tasks, instructions, protocols and cameras, without importing LIBERO.

Conventions of every suite here:

- Actions are (7,) in [-1, 1], `libero-osc-pose`: translation (0.05 m per unit) and axis-angle rotation (0.5 rad per unit)
  of the hand in world axes, relative to where it is now; then the gripper, of which only the sign counts: -1 opens, +1
  closes, 0 holds the last command. 20 actions a second.
- `proprio` is (8,): hand position (3) in world metres, hand orientation (3) as an axis-angle vector, finger joint
  positions (2) in metres (+q, -q; open is +-0.04); see `flowbench.envs.libero.simulator.LiberoSimulator.proprio`.
- The `policy` image view is mirrored: checkpoints of the OpenVLA line were trained on robosuite's bottom-up buffer turned
  by half a turn, which is the upright image seen in a mirror. The bytes are robosuite's for the same state; upstream's
  own loop shows the state of 4 ms before the end of a control step.
- A scenario is an official initial state plus a seed; the seed places the fixtures (cabinet, stove, rack, microwave,
  caddy), which LIBERO's initial states do not contain. Without an initial state, `Scenario(seed)`, the seed places the
  objects as well, with the task's own samplers; demonstrations are collected from such starts.

Protocols:

- `openvla` (default): the rules of OpenVLA's evaluation, which openpi and others share: a horizon per suite, 10
  settle steps with an opening gripper, all 50 initial states.
- `libero`: the rules of LIBERO's own evaluation: 600 steps for every suite, 5 settle steps of zeros (the gripper keeps
  still), the first 20 initial states. LIBERO renders 128 x 128 there; ask for it with `image_size=(128, 128)`.
"""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files

from flowbench.suite import RecordedField, Suite
from flowbench.task import ActionSpec, ProtocolRules, Task

#: robosuite's OSC_POSE controller with a Panda gripper, as LIBERO configures it (robosuite 1.4.0,
#: controllers/config/osc_pose.json and models/grippers/panda_gripper.py).
ACTION_SPEC = ActionSpec(
    convention="libero-osc-pose",
    labels=("dx", "dy", "dz", "drx", "dry", "drz", "gripper"),
    low=(-1.0,) * 7,
    high=(1.0,) * 7,
)

#: The no-op that a protocol's settle steps apply: OpenVLA's `get_libero_dummy_action` (experiments/robot/libero at
#: c8f03f4) keeps the gripper opening, LIBERO's `evaluate_one_task_success` (lifelong/metric.py at 8f1084e) sends zeros.
SETTLE_ACTIONS = {"openvla": (0.0,) * 6 + (-1.0,), "libero": (0.0,) * 7}

#: Cameras of every LIBERO scene; kitchens, living rooms and studies have one more.
VIEWS = (
    "agentview",
    "robot0_eye_in_hand",
    "frontview",
    "birdview",
    "sideview",
    "galleryview",
    "robot0_robotview",
)
SCENE_VIEWS = (*VIEWS, "paperview")

#: Names and layout of LIBERO's own demonstration files (scripts/create_dataset.py at 8f1084e). The physics vector starts
#: with the time, and the positions in it with the arm's seven joints.
RECORDED_FIELDS = {
    "ee_pos": RecordedField("proprio", 0, 3),
    "ee_ori": RecordedField("proprio", 3, 6),
    "ee_states": RecordedField("proprio", 0, 6),
    "gripper_states": RecordedField("proprio", 6, 8),
    "joint_states": RecordedField("states", 1, 8),
}

#: Tasks of each upstream suite with their target objects, in upstream's index order.
TASKS: dict[str, dict[str, list[str]]] = tomllib.loads(
    files(__package__).joinpath("tasks.toml").read_text(encoding="utf-8")
)


def instruction_of(task_name: str) -> str:
    """Return the sentence that papers use: the task's name without its scene, underscores read as spaces.

    The BDDL file of a task holds another sentence ("Pick the akita black bowl ..."), which published evaluations ignore.
    """
    return re.sub(r"^[A-Z_]+_SCENE\d+_", "", task_name).replace("_", " ")


def upstream_suite_of(task_name: str) -> str:
    """Return the upstream suite that holds a task, which is also the folder of its files; names are unique.

    Raises:
        KeyError: If there is no such task.
    """
    for upstream_suite, tasks in TASKS.items():
        if task_name in tasks:
            return upstream_suite
    raise KeyError(task_name)


def _suite(name: str, upstream_suite: str, horizon: int, views: tuple[str, ...]) -> Suite:
    tasks = tuple(
        Task(name, "libero", task, instruction_of(task), ACTION_SPEC, tuple(targets))
        for task, targets in TASKS[upstream_suite].items()
    )
    openvla = ProtocolRules(
        name="openvla",
        horizon=horizon,
        settle_steps=10,
        initial_states="official",
        episodes=50,
        source="openvla/openvla experiments/robot/libero/run_libero_eval.py at c8f03f4",
    )
    libero = ProtocolRules(
        name="libero",
        horizon=600,
        settle_steps=5,
        initial_states="official",
        episodes=20,
        source="Lifelong-Robot-Learning/LIBERO libero/lifelong/metric.py and configs/eval/default.yaml at 8f1084e",
    )
    return Suite(
        name=name,
        family="libero",
        tasks=tasks,
        protocols={rules.name: rules for rules in (openvla, libero)},
        views=views,
        default_view="agentview",
        image_size=(256, 256),
        simulator="flowbench.envs.libero.simulator:LiberoSimulator",
        requires=("libero", "robosuite", "mujoco"),
        extra="libero",
        init_states=50,
        sampled_starts=True,
        policy_view_mirrored=True,
        prepare="flowbench.envs.gl:configure_rendering",
        describe_renderer="flowbench.envs.gl:describe",
        fingerprints="flowbench.envs.libero:fingerprints.json",
        recorded_fields=RECORDED_FIELDS,
        # LIBERO's own files call the wrist camera so.
        view_aliases={"robot0_eye_in_hand": "eye_in_hand"},
    )


# Horizons: `max_steps` in run_libero_eval.py (see `openvla` above), each just above the suite's longest demonstration.
LIBERO_SPATIAL = _suite("libero-spatial", "libero_spatial", 220, VIEWS)
LIBERO_OBJECT = _suite("libero-object", "libero_object", 280, VIEWS)
LIBERO_GOAL = _suite("libero-goal", "libero_goal", 300, VIEWS)
LIBERO10 = _suite("libero10", "libero_10", 520, SCENE_VIEWS)
LIBERO90 = _suite("libero90", "libero_90", 400, SCENE_VIEWS)
