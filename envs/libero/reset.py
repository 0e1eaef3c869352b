"""Upstream's hard reset, bit for bit, without compiling the model again.

A hard reset of LIBERO rebuilds and recompiles the whole scene (about a second), lets robosuite reset the robot, and then
draws the fixtures' places from NumPy's global generator. The first two come out the same every time, so they are done
once, while the environment is built, and remembered; a reset restores them and repeats only the drawing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from flowbench.envs.libero import upstream
from flowbench.envs.libero.snapshot import copy_model_arrays, restore_model_arrays, restore_snapshot, take_snapshot
from flowbench.errors import RunFailed
from flowbench.seeding import derive_seed
from flowbench.task import Scenario

#: Upstream repeats a placement without end until it finds room.
MAX_PLACEMENT_TRIES = 100


def fixture_seed(task_name: str, scenario: Scenario) -> int:
    """Return the seed that upstream's `env.seed` would take: it places fixtures, and objects where no state is stored."""
    return derive_seed(f"libero/{task_name}/{scenario.key}", "fixtures")


class ExactReset:
    """Resets one LIBERO environment as the first hard reset of a fresh one would.

    The sequence that it equals: build upstream's `OffScreenRenderEnv`, call `seed(s)`, call `reset()`. Upstream's later
    resets differ from the first where something is open or switched on at the start, because a list of samplers grows
    with every hard reset and each of them draws a number.
    """

    def __init__(self, build: Callable[[], Any]) -> None:
        """Build the environment.

        Args:
            build: Returns a new `ControlEnv`.
        """
        from robosuite.environments.base import MujocoEnv
        from robosuite.environments.robot_env import RobotEnv

        compiled = {}
        initialize_sim = MujocoEnv._initialize_sim

        def initialize_and_keep(domain: Any, xml_string: str | None = None) -> None:
            initialize_sim(domain, xml_string)
            compiled.update(copy_model_arrays(domain.sim.model._model))

        # The constructor already moves the fixtures, so what the compiler made is copied in the middle of it.
        with upstream.numpy_random(0), _replaced(MujocoEnv, "_initialize_sim", initialize_and_keep):
            self.control_env = build()
        domain = self.domain = self.control_env.env
        self._samplers = list(domain.object_property_initializers)
        self._robot_env = RobotEnv
        # What a hard reset does up to the point where LIBERO places things. The number of calls to `forward` matters:
        # each advances the constraint solver's warm start, which decides the last bits of later steps.
        restore_model_arrays(domain.sim.model._model, compiled)
        domain.sim.reset()
        domain.sim.forward()  # Upstream: the new simulation,
        domain.sim.forward()  # and its new render context.
        for robot in domain.robots:
            robot.gripper.current_action = np.zeros(robot.gripper.dof)
        with upstream.numpy_random(0):
            RobotEnv._reset_internal(domain)
        self._before_placement = take_snapshot(domain)

    def __call__(self, seed: int) -> None:
        """Reset, with fixtures placed by `seed`.

        Raises:
            RunFailed: If no placement is found.
        """
        from robosuite.utils.errors import RandomizationError

        domain = self.domain
        with upstream.numpy_random(seed), _replaced(self._robot_env, "_reset_internal", self._restore_robot):
            for tries in range(1, MAX_PLACEMENT_TRIES + 1):
                # One round of samplers from the constructor, and one from each hard reset since.
                domain.object_property_initializers = self._samplers * (1 + tries)
                try:
                    domain._reset_internal()
                    break
                except RandomizationError:
                    continue
            else:
                raise RunFailed(f"LIBERO found no room for the objects of {domain.bddl_file_name!r} with seed {seed}.")
        domain.sim.forward()
        domain.visualize(vis_settings=dict.fromkeys(domain._visualizations, False))

    def _restore_robot(self, domain: Any) -> None:
        """Stand in for robosuite's part of a reset, including the random numbers that it draws and does not use."""
        for robot in domain.robots:
            np.random.randn(len(robot.init_qpos))  # noqa: NPY002
        restore_snapshot(domain, self._before_placement, derive=False)


@contextmanager
def _replaced(owner: type, name: str, function: Callable[..., None]) -> Iterator[None]:
    """Replace a method that upstream calls and does not let a caller reach."""
    original = getattr(owner, name)
    setattr(owner, name, lambda *args, **kwargs: function(*args, **kwargs))
    try:
        yield
    finally:
        setattr(owner, name, original)
