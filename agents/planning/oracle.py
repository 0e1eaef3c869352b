"""A perfect plan: the scripted expert, rolled out from the present state and taken back.

It is the upper bound of everything that imagines. It reads the simulator's state, so whatever uses it is privileged; the
state is restored exactly, and only the frames of the plan are rendered.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from flowbench.agent import Needs
from flowbench.agents.planning.plan import Plan, Window
from flowbench.agents.scripted import ScriptedAgent
from flowbench.camera import CameraPose
from flowbench.errors import AgentError, BadValue
from flowbench.flow.snapshot import snapshot_of
from flowbench.observation import Observation
from flowbench.simulator import Simulator, SimulatorState
from flowbench.task import Task

#: AVDC's demonstrations end here (`collect_video`, experiment/metaworld_exp/utils.py of AVDC_experiments).
STEPS_AFTER_SUCCESS = 10
#: A roll-out that has not succeeded ends here; AVDC's experts have 500 steps for a whole episode.
MAX_STEPS = 400


class OraclePlanner:
    """Plans with the scripted expert of the task's simulator.

    A plan is the expert's roll-out from the present state until ten successful steps after its success, or until the success
    is lost again (handle-press loses it at once), sampled as AVDC samples its videos. From states that the expert was not
    written for (a toppled object, at a replan) the roll-out may fail, and the plan with it.

    Where actions are choices, a plan shows every action until the expert says that it has finished, or as many as fit; those that
    turn out to be blocked are left out, because a plan that walks into a wall is not perfect. Where there is no way, it stands.
    """

    needs = Needs(privileged=True)
    #: Its plans depend on a state that no image holds.
    identity: Mapping[str, str] = {}

    def __init__(
        self, frames: int = 8, render: bool = True, snapshots: bool = True, max_steps: int = MAX_STEPS
    ) -> None:
        """Choose what plans hold.

        Args:
            frames: Number of moments T.
            render: Whether plans hold pictures; they cost ten times as much as snapshots.
            snapshots: Whether plans hold the states, for exact flow.
            max_steps: Length of the longest roll-out.

        Raises:
            BadValue: If there would be nothing to plan.
        """
        if frames < 2:
            raise BadValue(f"frames is {frames}; a plan has at least 2, the present included.")
        if not (render or snapshots):
            raise BadValue("An oracle plan without pictures and without snapshots holds nothing; leave one of them on.")
        self._frames, self._snapshots, self._max_steps = frames, snapshots, max_steps
        #: Whether plans hold pictures; whoever records plans turns it on.
        self.render = render
        self._expert = ScriptedAgent()

    def reset(self, task: Task) -> None:
        """Remember whose expert is asked."""
        self._task = task
        self._new = True

    def plan(self, observation: Observation, seed: int) -> Plan:
        """Roll the expert out from here, look at the sampled states, and go back."""
        started = time.perf_counter()
        simulator = observation.simulator
        camera = observation.camera_params()
        present = simulator.get_state()
        try:
            walks = bool(self._task.action_spec.choices)
            states = (self._walk if walks else self._roll_out)(simulator, observation, seed)
            pose = CameraPose.parse(observation.camera)
            views = []
            for index in moments_of(self._task, len(states), self._frames):
                simulator.set_state(states[index])
                view = snapshot_of(simulator, pose, camera.width, camera.height, rgb=self.render)
                views.append(view.mirror() if camera.mirrored else view)
        finally:
            simulator.set_state(present)
        return Plan(
            instruction=observation.instruction,
            seed=seed,
            window=Window.of_camera(camera),
            frames=np.stack([view.rgb for view in views]) if self.render else None,
            snapshots=tuple(views) if self._snapshots else None,
            seconds=time.perf_counter() - started,
        )

    def _roll_out(self, simulator: Simulator, observation: Observation, seed: int) -> list[SimulatorState]:
        """Return every state of the expert's roll-out, the present first; the simulator is left at its end."""
        self._expert.reset(self._task, {}, seed)
        states = [simulator.get_state()]
        successes = 0
        for step in range(1, self._max_steps + 1):
            action = self._expert.act(_look(simulator, observation.instruction, step))
            succeeded = simulator.step(action).success
            states.append(simulator.get_state())
            successes += succeeded
            if successes >= STEPS_AFTER_SUCCESS or (successes and not succeeded):
                break
        return states

    def _walk(self, simulator: Simulator, observation: Observation, seed: int) -> list[SimulatorState]:
        """Return the states that a plan of choices shows, the present first; the simulator is left at their end.

        The expert is the same during an episode: its map of the room is expensive, and it keeps in mind where it was stopped.
        """
        if self._new:
            self._expert.reset(self._task, {}, seed)
            self._new = False
        states, view = [simulator.get_state()], CameraPose.parse(observation.camera).view
        for step in range(1, self._max_steps + 1):
            before = simulator.view(view).camera_to_world
            try:
                action = self._expert.act(_look(simulator, observation.instruction, step))
            except AgentError:
                # Whoever follows plans has got himself into a place that no way leads out of.
                break
            over = simulator.step(action).over
            if over or not np.array_equal(simulator.view(view).camera_to_world, before):
                states.append(simulator.get_state())
            if over or len(states) == self._frames:
                break
        return states


def moments_of(task: Task, length: int, frames: int, start: int = 0) -> list[int]:
    """Return which of `length` moments a video of `frames` shows of a task from `start` on: all of what is left, or every action.

    AVDC's videos of manipulation are spread over what is left; those of navigation show consecutive moments, the last one again
    and again (`SequentialNavDataset` of `flowdiffusion/datasets.py`).
    """
    if task.action_spec.choices:
        return [min(start + index, length - 1) for index in range(frames)]
    return [start + index for index in sample_frames(length - start, frames)]


def sample_frames(length: int, frames: int) -> list[int]:
    """Return which of `length` moments a video of `frames` shows: AVDC's `sample_n_frames`, the last one included.

    >>> sample_frames(71, 8)
    [0, 10, 20, 30, 40, 50, 60, 70]
    """
    return [int(index * length / (frames - 1)) for index in range(frames - 1)] + [length - 1]


def _look(simulator: Simulator, instruction: str, step: int) -> Observation:
    """Return what an expert looks at: the state, and no image."""
    return Observation(
        keys=("proprio",),
        read=_no_reader(simulator),
        cameras={},
        instruction=instruction,
        step=step,
        simulator=simulator,
    )


def _no_reader(simulator: Simulator):
    return lambda key: {"proprio": simulator.proprio()}
