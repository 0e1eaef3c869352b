"""The CALVIN suites as data: tasks, sentences, protocols and cameras, without importing PyBullet.

Conventions of every suite here:

- Actions are (7,) in [-1, 1], `calvin-relative`: translation (0.02 m per unit, world axes) and Euler angles (0.05 rad per
  unit, added one by one) of the tool centre; then the gripper, of which only the sign counts: positive opens, else it closes.
  30 actions a second. They move a target that the arm follows, not the arm: it lags, and a target that ran ahead of a
  blocked arm has to come all the way back.
- Protocol `absolute` takes `calvin-absolute`: position in metres and Euler angles in radians of the tool centre in the world,
  then the gripper.
- `proprio` is upstream's `robot_obs` (15,): tool centre position (3, metres) and Euler angles (3; roll jumps between -pi and
  pi), gripper width (1, 0 to 0.08 m), arm joints (7, rad), last gripper command (1).
- Cameras: `static` 200 x 200 with a field of view of 10 degrees, `gripper` 84 x 84 with 75 degrees on the hand.
- Segmentation tells the robot, its gripper, each block, and the parts of the table that move or light up.

`calvin-d-d`, `calvin-abc-d` and `calvin-abcd-d` are one evaluation in scene D under three names that say what the agent was
trained on. Their one task is a chain: five instructions, one after the other, each judged by upstream's own oracle; initial
state N is upstream's sequence N. The `calvin-tasks` suites ask for each of the 34 tasks alone, from starts sampled from the
seed in scene D (or A, B, C); demonstrations come from there.

Protocols:

- `exact` (default): the world is built anew for every episode, so that its outcome depends on nothing that ran before.
- `official`: upstream's own soft reset, after which the contact solver remembers the episode before: the same sequence
  differs by millimetres, and then by outcomes, with what ran before it in the same process.
- `absolute`: `exact`, with absolute actions.
"""

from __future__ import annotations

from dataclasses import replace
from math import pi

from flowbench.envs.calvin.sequences import COUNT, LENGTH
from flowbench.envs.calvin.tasks import TASKS
from flowbench.suite import RecordedField, Suite
from flowbench.task import ActionSpec, ProtocolRules, Task

RELATIVE = ActionSpec(
    convention="calvin-relative",
    labels=("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper"),
    low=(-1.0,) * 7,
    high=(1.0,) * 7,
)
#: Wide bounds: the arm reaches no farther, and angles may be counted through a full turn either way.
ABSOLUTE = ActionSpec(
    convention="calvin-absolute",
    labels=("x", "y", "z", "roll", "pitch", "yaw", "gripper"),
    low=(-2.0, -2.0, -1.0, -2 * pi, -2 * pi, -2 * pi, -1.0),
    high=(2.0, 2.0, 2.0, 2 * pi, 2 * pi, 2 * pi, 1.0),
)

CHAIN_TASK = "chain"
VIEWS = ("static", "gripper")

#: `EP_LEN` and `NUM_SEQUENCES` of `calvin_agent/evaluation/evaluate_policy.py`.
_STEPS_PER_TASK = 360
_SOURCE = "mees/calvin calvin_agent/evaluation/evaluate_policy.py at fa03f01, on calvin_env at 797142c"

#: The state vector starts with upstream's `scene_obs` and `robot_obs`, and the target that relative actions add to
#: (`flowbench.envs.calvin.simulator.CalvinSimulator.get_state`).
_FIELDS = {
    "scene_obs": RecordedField("states", 0, 24),
    "robot_obs": RecordedField("states", 24, 39),
    "tcp_target": RecordedField("states", 39, 45),
    "ee_pos": RecordedField("proprio", 0, 3),
    "gripper_states": RecordedField("proprio", 6, 7),
    "joint_states": RecordedField("proprio", 7, 14),
}


def _protocols(chain: int, episodes: int) -> dict[str, ProtocolRules]:
    exact = ProtocolRules(
        name="exact",
        horizon=_STEPS_PER_TASK,
        initial_states="official" if chain > 1 else "sampled",
        episodes=episodes,
        source=_SOURCE,
        chain=chain,
    )
    official = replace(exact, name="official", source=f"{_SOURCE}, soft reset included")
    absolute = replace(exact, name="absolute", action_spec=ABSOLUTE)
    return {rules.name: rules for rules in (exact, official, absolute)}


def make_task(suite: str, name: str, action_spec: ActionSpec = RELATIVE) -> Task:
    """Return one of the 34 tasks."""
    return Task(suite, "calvin", name, TASKS[name].sentence, action_spec, TASKS[name].targets)


def _suite(name: str, tasks: tuple[Task, ...], protocols: dict[str, ProtocolRules], init_states: int | None) -> Suite:
    return Suite(
        name=name,
        family="calvin",
        tasks=tasks,
        protocols=protocols,
        views=VIEWS,
        default_view="static",
        image_size=(200, 200),
        view_sizes={"gripper": (84, 84)},
        simulator="flowbench.envs.calvin.simulator:CalvinSimulator",
        requires=("pybullet", "hydra", "omegaconf"),
        extra="calvin",
        setup_check="flowbench.envs.calvin.checkout:missing",
        content_versions="flowbench.envs.calvin.checkout:versions",
        init_states=init_states,
        describe_renderer="flowbench.envs.calvin.cameras:describe",
        fingerprints="flowbench.envs.calvin:fingerprints.json",
        control_hz=30.0,
        recorded_fields=_FIELDS,
    )


def _chain_suite(name: str) -> Suite:
    task = Task(name, "calvin", CHAIN_TASK, "carry out five instructions, one after the other", RELATIVE)
    return _suite(name, (task,), _protocols(LENGTH, COUNT), COUNT)


def _task_suite(name: str) -> Suite:
    return _suite(name, tuple(make_task(name, task) for task in TASKS), _protocols(1, 10), None)


CALVIN_D_D = _chain_suite("calvin-d-d")
CALVIN_ABC_D = _chain_suite("calvin-abc-d")
CALVIN_ABCD_D = _chain_suite("calvin-abcd-d")
CALVIN_TASKS = _task_suite("calvin-tasks")
CALVIN_TASKS_A = _task_suite("calvin-tasks-a")
CALVIN_TASKS_B = _task_suite("calvin-tasks-b")
CALVIN_TASKS_C = _task_suite("calvin-tasks-c")


def scene_of(suite: str) -> str:
    """Return the letter of a suite's scene."""
    return {"calvin-tasks-a": "A", "calvin-tasks-b": "B", "calvin-tasks-c": "C"}.get(suite, "D")
