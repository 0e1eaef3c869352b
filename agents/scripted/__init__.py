"""Scripted experts under one agent name: the ceiling of every table, and the source of demonstrations.

An expert reads the simulator's state and needs no image. It is chosen by the task's simulator when an episode starts, so
that no simulator package is imported before it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from flowbench.agent import Needs
from flowbench.camera import CameraParams
from flowbench.errors import AgentError, BadValue, missing_extra
from flowbench.observation import Observation
from flowbench.suite import load_object
from flowbench.task import Task

#: Import strings of the experts, by simulator family.
EXPERTS = {
    "toy": "flowbench.agents.scripted.toy:ToyExpert",
    "metaworld": "flowbench.agents.scripted.metaworld:MetaWorldExpert",
    "libero": "flowbench.agents.scripted.libero.expert:LiberoExpert",
    "ithor": "flowbench.agents.scripted.ithor:IthorExpert",
    "calvin": "flowbench.agents.scripted.calvin.expert:CalvinExpert",
}


class Expert(Protocol):
    """What `ScriptedAgent` builds, without arguments, once per simulator family; `reset` and `act` are an agent's."""

    def reset(self, task: Task, cameras: Mapping[str, CameraParams], seed: int) -> None:
        """Prepare for one episode."""
        ...

    def act(self, observation: Observation) -> np.ndarray:
        """Return one action, read off `observation.simulator`."""
        ...


class ScriptedAgent:
    """The scripted expert of whatever simulator the task runs in."""

    needs = Needs(privileged=True)

    def __init__(self, speed_variety: float = 0.0) -> None:
        """Load nothing yet.

        Args:
            speed_variety: Share by which an episode may be slower, 0 to 0.8, drawn from its seed; for demonstrations. Only some
                experts can.

        Raises:
            BadValue: If it is out of range.
        """
        if not 0 <= speed_variety <= 0.8:
            raise BadValue(f"speed_variety is {speed_variety:g}; give a number from 0 to 0.8.")
        self._speed_variety = speed_variety
        self._experts: dict[str, Expert] = {}

    def reset(self, task: Task, cameras: Mapping[str, CameraParams], seed: int) -> None:
        """Choose the expert and reset it.

        Raises:
            AgentError: If no expert is written for the task's simulator.
            MissingExtra: If the expert needs a package that is not installed.
        """
        if task.family not in self._experts:
            expert = self._experts[task.family] = _load(task)()
            if self._speed_variety:
                if not hasattr(expert, "speed_variety"):
                    raise AgentError(f"The scripted expert of {task.family} has one speed; leave out speed_variety.")
                expert.speed_variety = self._speed_variety
        self._expert = self._experts[task.family]
        self._expert.reset(task, cameras, seed)

    def act(self, observation: Observation) -> np.ndarray:
        """Return the expert's action."""
        return self._expert.act(observation)

    @property
    def finished(self) -> bool | None:
        """Whether the expert has let go and moved away after its success; None if it does not say."""
        return getattr(self._expert, "finished", None)


def _load(task: Task) -> type[Expert]:
    if task.family not in EXPERTS:
        raise AgentError(
            f"No scripted expert is written for {task.family}, the simulator of suite {task.suite}. Experts exist for: "
            f"{', '.join(sorted(EXPERTS))}. Choose one of their suites, or another agent: flowbench list agents"
        )
    try:
        return load_object(EXPERTS[task.family])
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("flowbench"):
            raise
        raise missing_extra(f"The scripted expert of suite {task.suite}", task.family, error) from error
