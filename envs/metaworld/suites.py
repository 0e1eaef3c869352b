"""The Meta-World suites as data: task names, published orders, protocols and the objects that AVDC masks.

Importing this module needs no simulator, so that suites can be listed on any machine. `tests/envs/needs_metaworld` compares
every list with the installed `metaworld`.
"""

from __future__ import annotations

from dataclasses import replace

from flowbench.suite import Suite
from flowbench.task import ActionSpec, ProtocolRules, Task

#: Displacement of the hand (1 is 1 cm per step) and gripper effort (-1 opens, 1 closes).
ACTION_SPEC = ActionSpec(
    convention="metaworld-xyz-gripper",
    labels=("dx", "dy", "dz", "gripper"),
    low=(-1.0, -1.0, -1.0, -1.0),
    high=(1.0, 1.0, 1.0, 1.0),
)

#: Cameras of every Meta-World v3 model, in the model's order.
VIEWS = ("topview", "corner", "corner2", "corner3", "corner4", "behindGripper", "gripperPOV")

#: The eleven tasks in the order of AVDC's table (arXiv 2310.08576, table 1; `benchmark_mw.sh` of AVDC_experiments).
AVDC_TASKS = (
    "door-open",
    "door-close",
    "basketball",
    "shelf-place",
    "button-press",
    "button-press-topdown",
    "faucet-close",
    "faucet-open",
    "handle-press",
    "hammer",
    "assembly",
)

#: Meta-World's MT10, in its own order (`metaworld.env_dict.MT10_V3`).
MT10_TASKS = (
    "reach",
    "push",
    "pick-place",
    "door-open",
    "drawer-open",
    "drawer-close",
    "button-press-topdown",
    "peg-insert-side",
    "window-open",
    "window-close",
)

#: Meta-World's MT50, in its own order (`metaworld.env_dict.MT50_V3`).
MT50_TASKS = (
    "assembly",
    "basketball",
    "bin-picking",
    "box-close",
    "button-press-topdown",
    "button-press-topdown-wall",
    "button-press",
    "button-press-wall",
    "coffee-button",
    "coffee-pull",
    "coffee-push",
    "dial-turn",
    "disassemble",
    "door-close",
    "door-lock",
    "door-open",
    "door-unlock",
    "hand-insert",
    "drawer-close",
    "drawer-open",
    "faucet-open",
    "faucet-close",
    "hammer",
    "handle-press-side",
    "handle-press",
    "handle-pull-side",
    "handle-pull",
    "lever-pull",
    "pick-place-wall",
    "pick-out-of-hole",
    "pick-place",
    "plate-slide",
    "plate-slide-side",
    "plate-slide-back",
    "plate-slide-back-side",
    "peg-insert-side",
    "peg-unplug-side",
    "soccer",
    "stick-push",
    "stick-pull",
    "push",
    "push-wall",
    "push-back",
    "reach",
    "reach-wall",
    "shelf-place",
    "sweep-into",
    "sweep",
    "window-open",
    "window-close",
)

#: What AVDC masks in each task, by segmentation name (see `flowbench.envs.metaworld.parts`). AVDC lists geom numbers
#: (`name2maskid.json`); these are the geoms they meant in its own models. The numbers moved in v3: its basketball is now
#: a foot of the pedestal.
AVDC_TARGETS = {
    "door-open": ("door_link/handle",),
    "door-close": ("door_link/door", "door_link/handle"),
    "basketball": ("basketball/basketballouter",),
    "shelf-place": ("obj",),
    "button-press": ("button/btnGeom", "button/stopbuttonrod"),
    "button-press-topdown": ("button/btnGeom", "button/stopbuttonrod"),
    "faucet-close": ("faucet_link2/faucethandle1", "faucet_link2/capsule"),
    "faucet-open": ("faucet_link2/faucethandle1", "faucet_link2/capsule"),
    "handle-press": ("handle_link/handle_press_grip", "handle_link/handle_press_lever"),
    "hammer": ("hammer/HammerHandle",),
    "assembly": ("asmbly_peg/WrenchHandle", "asmbly_peg/cylinder"),
}

#: Meta-World as it is installed. An environment may be stepped 500 times (`SawyerXYZEnv.max_path_length`).
STOCK_V3 = ProtocolRules(
    name="stock_v3",
    horizon=500,
    success_rule="first_success",
    image_view="geometric",
    initial_states="stock_v3",
    episodes=25,
    source="metaworld 3.1.1; 25 episodes per task and camera as in arXiv 2310.08576",
)

#: AVDC's evaluation: its fork's initial states, its success rule, its mirrored images (`benchmark_mw.py`).
AVDC = ProtocolRules(
    name="avdc",
    horizon=500,
    success_rule="avdc_strict",
    image_view="policy",
    initial_states="avdc_fork",
    episodes=25,
    source="arXiv 2310.08576 and AVDC_experiments at e9b5b00, on metaworld 3.1.1 instead of its v2 fork",
)


def _task(suite: str, name: str) -> Task:
    # AVDC's sentence is the task's name (`experiment/myutils.py` of AVDC_experiments).
    return Task(suite, "metaworld", name, name.replace("-", " "), ACTION_SPEC, AVDC_TARGETS.get(name, ()))


METAWORLD_MT50 = Suite(
    name="metaworld-mt50",
    family="metaworld",
    tasks=tuple(_task("metaworld-mt50", name) for name in MT50_TASKS),
    protocols={"stock_v3": STOCK_V3},
    views=VIEWS,
    default_view="corner",
    image_size=(320, 240),
    simulator="flowbench.envs.metaworld.simulator:MetaWorldSimulator",
    requires=("metaworld", "mujoco"),
    extra="metaworld",
    policy_view_mirrored=True,
    prepare="flowbench.envs.gl:configure_rendering",
    describe_renderer="flowbench.envs.gl:describe",
    fingerprints="flowbench.envs.metaworld:fingerprints.json",
    # 5 physics steps of 2.5 ms (`SawyerXYZEnv`: frame_skip 5; `basic_scene.xml`: timestep 0.0025).
    control_hz=80.0,
)

METAWORLD_MT10 = METAWORLD_MT50.subset("metaworld-mt10", MT10_TASKS)

METAWORLD11 = replace(METAWORLD_MT50.subset("metaworld11", AVDC_TASKS), protocols={"stock_v3": STOCK_V3, "avdc": AVDC})
