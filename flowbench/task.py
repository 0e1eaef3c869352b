"""What is asked of an agent: a task, the rules it is judged by, and the scenario it starts from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from flowbench.errors import ActionError, ShapeError

ImageView = Literal["geometric", "policy"]
SuccessRuleName = Literal["first_success", "avdc_strict", "at_end"]

#: A component may exceed its bound by this much before it counts as out of range (float32 policies round).
ACTION_TOLERANCE = 1e-5


#: The choice that ends an episode, in suites whose actions are choices and which have one.
DONE = "Done"


@dataclass(frozen=True)
class ActionSpec:
    """The layout of a suite's action vector, by convention and by component.

    Attributes:
        convention: Name of the convention, e.g. `"metaworld-xyz-gripper"`; an agent that declares another is refused.
        labels: One word per component, e.g. `("dx", "dy", "dz", "gripper")`.
        low: Smallest value of each component.
        high: Largest value of each component.
        choices: Where an action is one of a few: what its only component means, from 0 on. Gymnasium calls that `Discrete`;
            `DONE` among them ends the episode.
    """

    convention: str
    labels: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    choices: tuple[str, ...] = ()

    @classmethod
    def choice(cls, convention: str, choices: tuple[str, ...]) -> ActionSpec:
        """Return the layout of actions that are one of a few."""
        return cls(convention, ("choice",), (0.0,), (float(len(choices) - 1),), choices)

    @property
    def size(self) -> int:
        """Number of components A."""
        return len(self.labels)

    def validate(self, action: object, *, clip: bool = False) -> np.ndarray:
        """Return `action` as a float64 (A,) array within bounds.

        Args:
            action: What an agent returned for one step. A choice may also be a bare number, as Gymnasium has it.
            clip: Clip out-of-range components instead of refusing them.

        Raises:
            ActionError: If the shape is wrong, or a component is not finite or out of range.
        """
        try:
            vector = np.asarray(action, dtype=np.float64)
        except (TypeError, ValueError, RuntimeError):  # RuntimeError: a torch tensor that requires gradients
            raise ActionError(f"is not numeric: {action!r:.80}; expected {self._expected()}") from None
        if self.choices and vector.shape == ():
            vector = vector.reshape(1)
        # Plain comparisons for the ordinary action: a dozen NumPy calls would cost a tenth of a Meta-World step.
        in_range = (low <= value <= high for low, value, high in zip(self.low, vector.flat, self.high, strict=False))
        if vector.shape == (self.size,) and all(in_range) and not (self.choices and vector[0] % 1):
            return vector.copy()
        if vector.shape != (self.size,):
            raise ActionError(f"has shape {vector.shape}; expected {self._expected()}")
        if not np.all(np.isfinite(vector)):
            bad = int(np.flatnonzero(~np.isfinite(vector))[0])
            raise ActionError(f"has {self.labels[bad]} = {vector[bad]}; every component must be finite")
        if self.choices and vector[0] % 1:
            raise ActionError(f"is {vector[0]:g}; expected {self._expected()}")
        low, high = np.array(self.low), np.array(self.high)
        outside = (vector < low - ACTION_TOLERANCE) | (vector > high + ACTION_TOLERANCE)
        if outside.any() and not clip:
            bad = int(np.flatnonzero(outside)[0])
            raise ActionError(
                f"has {self.labels[bad]} = {vector[bad]:g}, outside [{low[bad]:g}, {high[bad]:g}]; "
                "return it in range, or allow clipping with --clip-actions"
            )
        return np.clip(vector, low, high)

    def sample(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Return (count, A) actions that are drawn uniformly."""
        if self.choices:
            return rng.integers(len(self.choices), size=(count, 1)).astype(np.float64)
        return rng.uniform(self.low, self.high, (count, self.size))

    def _expected(self) -> str:
        if self.choices:
            names = ", ".join(f"{index} ({name})" for index, name in enumerate(self.choices))
            return f"one of {names} of convention {self.convention}"
        return f"({self.size},) = ({', '.join(self.labels)}) of convention {self.convention}"


@dataclass(frozen=True)
class ProtocolRules:
    """The named rule set a task is judged by; recorded with every episode.

    Attributes:
        name: Name of the protocol, e.g. `"openvla"`.
        horizon: Number of agent steps after which the episode fails; settle steps are not counted. In a chain, the number
            for each of its instructions.
        settle_steps: Steps of the suite's no-op before the agent's first look.
        success_rule: `first_success` ends the episode at the first success; `avdc_strict` and `at_end` are described in
            `flowbench.success`.
        image_view: Orientation of the images an agent gets unless it asks for another one.
        initial_states: The suite's own name for how initial states are made, e.g. `"stock_v3"` or `"official"`.
        episodes: Scenarios per task unless the user says otherwise.
        chain: Number of instructions of an episode. Where it is more than one, they are given one after the other, without a
            reset between them, until one fails; see `flowbench.simulator.ChainSimulator`.
        action_spec: Layout of the action vector instead of the task's, where a suite can be driven in several ways.
        source: Where the numbers come from.
    """

    name: str
    horizon: int
    settle_steps: int = 0
    success_rule: SuccessRuleName = "first_success"
    image_view: ImageView = "geometric"
    initial_states: str = "seeded"
    episodes: int = 10
    source: str = ""
    chain: int = 1
    action_spec: ActionSpec | None = None


@dataclass(frozen=True)
class Task:
    """One instruction with its initial states and success rule.

    Attributes:
        suite: Name of the suite.
        family: Name of the simulator behind the suite, e.g. `"metaworld"`; several suites may share one.
        name: Name of the task within its suite, as the upstream project spells it.
        instruction: The sentence given to language-conditioned agents.
        action_spec: Layout of the action vector.
        targets: Segmentation names of the object(s) the task is about; empty when unknown.
    """

    suite: str
    family: str
    name: str
    instruction: str
    action_spec: ActionSpec
    targets: tuple[str, ...] = ()


@dataclass(frozen=True, order=True)
class Scenario:
    """One initial condition of a task, independent of camera and agent.

    Attributes:
        seed: Determines everything the simulator samples.
        init_state: Index into the suite's stored initial states; None for suites that sample theirs from the seed.
    """

    seed: int = 0
    init_state: int | None = None

    def __post_init__(self) -> None:
        if self.seed < 0 or (self.init_state is not None and self.init_state < 0):
            raise ShapeError(f"{self} has a negative seed or index; both count from 0.")

    @cached_property
    def key(self) -> str:
        """Readable key within the task: `s003`, or `i007-s000` where initial states are stored."""
        seed = f"s{self.seed:03d}"
        return seed if self.init_state is None else f"i{self.init_state:03d}-{seed}"
