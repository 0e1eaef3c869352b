"""What a suite's author writes: the few operations that differ between simulators.

Everything else (observation keys, lazy rendering, image views, camera poses, success rules, Gymnasium) is done once, in
`flowbench.env`, on top of this protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np

from flowbench.camera import CameraParams, View
from flowbench.task import Scenario, Task

Modality = Literal["rgb", "depth", "segmentation", "calibration"]
#: What a camera can show of one state.
MODALITIES: tuple[Modality, ...] = ("rgb", "depth", "segmentation", "calibration")
#: What an environment can be asked for: optical flow also needs the state before, so it is never part of a recorded state.
OBSERVABLE_MODALITIES: tuple[str, ...] = (*MODALITIES, "flow")
#: The modalities that need a render pass.
RENDERED_MODALITIES = frozenset({"rgb", "depth", "segmentation"})

RenderProfile = Literal["full", "fast"]


@dataclass(frozen=True)
class RenderSettings:
    """How images are made.

    Attributes:
        width: Image width in pixels.
        height: Image height in pixels.
        profile: `full` gives upstream's own pixels; `fast` leaves out shadows, reflections and anti-aliasing and is not
            for published numbers.
    """

    width: int
    height: int
    profile: RenderProfile = "full"


class Frame(NamedTuple):
    """What one camera sees now; modalities that were not asked for are None.

    Attributes:
        rgb: uint8 (H, W, 3), upright and not mirrored.
        depth_m: float32 (H, W) metres along the optical axis; 0 where nothing was hit.
        segmentation: int32 (H, W) object ids; 0 is background.
        bodies: int32 (H, W) rigid body behind each pixel, where the simulator is a `BodySource`.
    """

    rgb: np.ndarray | None = None
    depth_m: np.ndarray | None = None
    segmentation: np.ndarray | None = None
    bodies: np.ndarray | None = None


class StepOutcome(NamedTuple):
    """What one simulator step gave.

    Attributes:
        reward: The simulator's own reward.
        success: Whether the task's success predicate holds now.
        over: Whether the action said that the agent has finished; what that means is for the protocol's success rule.
    """

    reward: float
    success: bool
    over: bool = False


@dataclass(frozen=True)
class SimulatorState:
    """An exact copy of everything a scenario's future depends on.

    Attributes:
        physics: Flat float64 vector of the physics engine's state.
        extras: Whatever else the simulator needs to go on bit for bit.
    """

    physics: np.ndarray
    extras: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Simulator(Protocol):
    """One task in one simulator, built once and reset for every scenario.

    It is constructed as `Simulator(task, rules, render)` with a `Task`, `ProtocolRules` and `RenderSettings`. Building
    it must not need OpenGL; a context is made at the first `render`.
    """

    views: tuple[str, ...]
    workspace_center_world: np.ndarray  # (3,) metres, the point camera poses orbit about
    settle_action: np.ndarray  # (A,) the no-op of the protocol's settle steps
    #: Rendered modalities that come from one pass, so that asking for one costs as much as asking for all of its group.
    passes: tuple[frozenset[str], ...]

    def reset(self, scenario: Scenario) -> None:
        """Go to the start of a scenario: a pure function of it, whatever ran before. Settle steps are not included."""
        ...

    def step(self, action: np.ndarray) -> StepOutcome:
        """Apply one (A,) float64 action that lies within the action spec."""
        ...

    def proprio(self) -> np.ndarray:
        """Return the float32 (P,) robot state; its layout stands in the suite's docstring."""
        ...

    def view(self, name: str) -> View:
        """Return a named camera as it stands now, in the convention of the upright image."""
        ...

    def render(self, name: str, camera: CameraParams, modalities: frozenset[str]) -> Frame:
        """Render from the pose and field of view of `camera`, upright and unmirrored.

        Args:
            name: The named view that `camera` is, or was displaced from.
            camera: Where to render from; its size is that of the render settings.
            modalities: A subset of `RENDERED_MODALITIES`; and `bodies`, where the simulator is a `BodySource`.
        """
        ...

    def enclosing_object(self, point_world: np.ndarray) -> str | None:
        """Return the name of the object that a (3,) point lies inside of, or None; a camera there sees nothing useful."""
        ...

    def segmentation_names(self) -> Mapping[int, str]:
        """Return the name of every object id that `segmentation` can hold, without 0 (background)."""
        ...

    def get_state(self) -> SimulatorState:
        """Copy the whole state."""
        ...

    def set_state(self, state: SimulatorState) -> None:
        """Restore a state of this task exactly."""
        ...

    def close(self) -> None:
        """Free the simulator and its OpenGL context; may be called twice."""
        ...


@runtime_checkable
class ChainSimulator(Protocol):
    """A simulator whose episodes are chains of instructions (`ProtocolRules.chain`): what it needs besides `Simulator`.

    It judges the present instruction only; when to go on and when to stop is decided by `flowbench.success`.
    """

    #: The present instruction as a task of its own; the first one after a reset.
    asked: Task

    def ask_next(self) -> None:
        """Give the next instruction in the world as it stands; success is measured from here on."""
        ...


@runtime_checkable
class BodySource(Protocol):
    """A simulator that tells which rigid body is behind each pixel and where it stands: what exact optical flow needs.

    Its `render` then also answers to the modality `bodies`, from the same pass as depth.
    """

    def body_poses(self) -> np.ndarray:
        """Return the float64 (N, 4, 4) poses in the world, metres, of the bodies as they stand now (a copy).

        Index 0 is the identity and stands for the static world and for whatever is infinitely far away. The order is the
        same in every state of a task. Nothing is simulated: the poses are those that would be rendered.
        """
        ...
