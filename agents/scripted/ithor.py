"""The way to an object in iTHOR: shortest paths over the poses that the agent can take.

Every action is one step, so the paths are those of a breadth-first search, backwards from all poses that see the target: its
distances say what to do from wherever the agent stands, also where another agent left it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from flowbench.camera import CameraParams
from flowbench.errors import AgentError
from flowbench.observation import Observation
from flowbench.task import Task

#: Which component of `proprio` says whether the last action had an effect (`flowbench.envs.ithor.suites`).
_EFFECT = 1


class Cell(NamedTuple):
    """A pose on the grid: column and row in steps from the world's origin, and direction in turns from Unity's +z."""

    column: int
    row: int
    turn: int


class IthorExpert:
    """Walks to the nearest pose that sees the target, then says so.

    It is privileged: it asks the player for reachable positions and for poses that see the target. What it cannot know, it
    learns by trying: a way that turns out to be blocked, and a pose that does not see the target after all, are not tried again
    in this episode.
    """

    def reset(self, task: Task, cameras: Mapping[str, CameraParams], seed: int) -> None:
        """Forget the room."""
        del cameras, seed
        choices = task.action_spec.choices
        self._ahead, self._right, self._left, self._done = (
            choices.index(name) for name in ("MoveAhead", "RotateRight", "RotateLeft", "Done")
        )
        self._distances: dict[Cell, int] | None = None
        self._blocked: set[Cell] = set()
        self._before: Cell | None = None

    def act(self, observation: Observation) -> np.ndarray:
        """Return one action.

        Raises:
            AgentError: If no pose that can be walked to sees the target.
        """
        simulator: Any = observation.simulator
        if simulator.target_visible:
            return np.array([self._done])
        here = _cell(simulator)
        if self._distances is None:
            self._places = {_grid(place, simulator.grid_m) for place in simulator.reachable_positions()}
            self._goals = {_cell_of(pose, simulator) for pose in simulator.poses_seeing_target()}
            self._turns = round(360 / simulator.turn_deg)
            self._search()
        elif here == self._before and not observation.proprio[_EFFECT]:
            # The last step was one ahead, and nothing happened. Asked for the second time about a pose that was only tried out
            # (`OraclePlanner`), it is in the same place and has not been stopped.
            self._blocked.add(here)
            self._search()
        if here in self._goals:
            self._goals.discard(here)
            self._search()
        if (here.column, here.row) not in self._places:
            # A diagonal step is not checked for obstacles, so another agent may stand where no way leads to; it may leave.
            self._places.add((here.column, here.row))
            self._search()
        if here not in self._distances:
            raise AgentError(
                f"no pose that sees the target of {observation.instruction!r} can be walked to from {here}"
            )
        choice, there = min(self._steps(here), key=lambda step: self._distances.get(step[1], math.inf))
        self._before = here if choice == self._ahead else None
        return np.array([choice])

    def _steps(self, cell: Cell) -> list[tuple[int, Cell]]:
        """Return what can be done in a pose, with the pose that it leads to."""
        steps = [
            (self._right, cell._replace(turn=(cell.turn + 1) % self._turns)),
            (self._left, cell._replace(turn=(cell.turn - 1) % self._turns)),
        ]
        ahead = self._one_ahead(cell, 1)
        if cell not in self._blocked and (ahead.column, ahead.row) in self._places:
            steps.insert(0, (self._ahead, ahead))
        return steps

    def _one_ahead(self, cell: Cell, sign: int) -> Cell:
        # A diagonal step ends on the diagonal neighbour: AI2-THOR rounds each coordinate to the grid.
        angle = 2 * math.pi * cell.turn / self._turns
        return cell._replace(
            column=cell.column + sign * round(math.sin(angle)), row=cell.row + sign * round(math.cos(angle))
        )

    def _search(self) -> None:
        """Find the number of steps from every pose to the nearest goal."""
        self._distances = dict.fromkeys(self._goals, 0)
        queue = deque(self._goals)
        while queue:
            cell = queue.popleft()
            before = [cell._replace(turn=(cell.turn + turn) % self._turns) for turn in (1, -1)]
            behind = self._one_ahead(cell, -1)
            if behind not in self._blocked and (behind.column, behind.row) in self._places:
                before.append(behind)
            for earlier in before:
                if earlier not in self._distances:
                    self._distances[earlier] = self._distances[cell] + 1
                    queue.append(earlier)


def _cell(simulator: Any) -> Cell:
    return _cell_of(simulator.pose, simulator)


def _cell_of(pose: Any, simulator: Any) -> Cell:
    turns = round(360 / simulator.turn_deg)
    return Cell(*_grid((pose.x, pose.z), simulator.grid_m), round(pose.yaw_deg / simulator.turn_deg) % turns)


def _grid(place: tuple[float, float], grid_m: float) -> tuple[int, int]:
    return round(place[0] / grid_m), round(place[1] / grid_m)
