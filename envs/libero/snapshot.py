"""Exact copies of a running LIBERO environment: the physics, and what robosuite and LIBERO keep outside it.

robosuite's own `get_state` holds time, positions and velocities. The future also depends on the constraint solver's warm
start, on what the arm's controller and the gripper remember, and on where the fixtures stand, which is part of the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np

from flowbench.errors import BadValue
from flowbench.simulator import SimulatorState

#: The parts of the compiled model that LIBERO changes while it runs: fixtures are placed by moving their bodies, and the
#: stove's burner lights up by colouring a site.
CHANGING_MODEL_ARRAYS = ("body_pos", "body_quat", "site_rgba")

_PHYSICS = mujoco.mjtState.mjSTATE_INTEGRATION


def copy_model_arrays(model: mujoco.MjModel) -> dict[str, np.ndarray]:
    """Copy the parts of the model that change."""
    return {name: getattr(model, name).copy() for name in CHANGING_MODEL_ARRAYS}


def restore_model_arrays(model: mujoco.MjModel, arrays: Mapping[str, np.ndarray]) -> None:
    """Put back what `copy_model_arrays` copied."""
    for name, array in arrays.items():
        getattr(model, name)[:] = array


def take_snapshot(domain: Any) -> SimulatorState:
    """Copy everything that the future of a LIBERO environment depends on.

    What robosuite's robot records about past steps (`recent_qpos` and the like) is left out: nothing reads it.

    Args:
        domain: The robosuite environment inside LIBERO's `ControlEnv`.
    """
    model, data = domain.sim.model._model, domain.sim.data._data
    physics = np.empty(mujoco.mj_stateSize(model, _PHYSICS))
    mujoco.mj_getState(model, data, physics, _PHYSICS)
    robot = domain.robots[0]
    extras = {
        "model": copy_model_arrays(model),
        "controller": _copied(vars(robot.controller)),
        "gripper_action": robot.gripper.current_action.copy(),
        "clock": (domain.timestep, domain.cur_time),
    }
    return SimulatorState(physics, extras)


def restore_snapshot(domain: Any, state: SimulatorState, *, derive: bool = True) -> None:
    """Go back to a snapshot of the same scene.

    Args:
        domain: The robosuite environment inside LIBERO's `ControlEnv`.
        state: What `take_snapshot` gave.
        derive: Compute poses and contacts as well; not needed right before something that does so itself.

    Raises:
        BadValue: If the snapshot was taken in another scene.
    """
    model, data = domain.sim.model._model, domain.sim.data._data
    size = mujoco.mj_stateSize(model, _PHYSICS)
    if state.physics.shape != (size,):
        raise BadValue(
            f"The state to restore has {state.physics.size} numbers and this LIBERO scene needs {size}: it was taken from "
            "another task. Restore it in the task that it came from."
        )
    robot, extras = domain.robots[0], state.extras
    restore_model_arrays(model, extras["model"])
    vars(robot.controller).update(_copied(extras["controller"]))
    robot.gripper.current_action = extras["gripper_action"].copy()
    domain.timestep, domain.cur_time = extras["clock"]
    domain.done = False
    mujoco.mj_setState(model, data, state.physics, _PHYSICS)
    if derive:
        mujoco.mj_forward(model, data)
        # The solver's warm start belongs to the state, and `mj_forward` has just improved it.
        mujoco.mj_setState(model, data, state.physics, _PHYSICS)


def _copied(controller: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a controller's attributes, except the simulation that it works on.

    Memory order is kept too: a product of transposed arrays takes another path through BLAS, with other last bits.
    """
    return {
        name: value.copy(order="K") if isinstance(value, np.ndarray) else value
        for name, value in controller.items()
        if name != "sim"
    }
