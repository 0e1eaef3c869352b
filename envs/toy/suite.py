"""The toy suite as data: three tasks on one table, from easy to hard.

Proprioception, float32 (4,): x, y, z of the point between the fingertips in metres (world frame: origin in the middle of
the table top, x to the right of the `front` image, y away from its camera, z up), then half the opening of the fingers
in metres.

Actions (4,): dx, dy, dz in units of `physics.STEP_M` per step, then the gripper: -1 opens, +1 closes.

Scenarios are drawn from the seed; no initial states are stored. Segmentation names are table, gripper, goal and block.
"""

from __future__ import annotations

from flowbench.suite import Suite
from flowbench.task import ActionSpec, ProtocolRules, Task

ACTION = ActionSpec(
    convention="toy-xyz-gripper",
    labels=("dx", "dy", "dz", "gripper"),
    low=(-1.0, -1.0, -1.0, -1.0),
    high=(1.0, 1.0, 1.0, 1.0),
)

TASKS = (
    Task("toy", "toy", "reach", "move the gripper to the red ball", ACTION, targets=("goal",)),
    Task("toy", "toy", "push", "push the block onto the green disc", ACTION, targets=("block",)),
    Task("toy", "toy", "lift", "pick up the block and lift it", ACTION, targets=("block",)),
)

#: FlowBench's own toy: the numbers are ours. The scripted expert needs about a third of the horizon.
DEFAULT = ProtocolRules(name="default", horizon=100, episodes=10, source="FlowBench, flowbench.envs.toy")

TOY = Suite(
    name="toy",
    family="toy",
    tasks=TASKS,
    protocols={"default": DEFAULT},
    views=("front", "side", "wrist"),
    default_view="front",
    image_size=(128, 96),
    simulator="flowbench.envs.toy.simulator:ToySimulator",
    # No checkpoint was published for it; mirrored so that both image views can be tested without a simulator.
    policy_view_mirrored=True,
)
