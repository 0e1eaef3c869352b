"""What an agent sees: a mapping of flat keys whose arrays are rendered only when somebody reads them.

Rendering costs two orders of magnitude more than physics, and most agents look once per action chunk, so an
observation holds no pixels until it is asked for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from flowbench.errors import PrivilegeError, StaleObservation, UnknownName, unknown_name

if TYPE_CHECKING:
    from flowbench.camera import CameraParams
    from flowbench.simulator import Simulator


class Observation(Mapping[str, np.ndarray]):
    """A Gymnasium `Dict` observation, read lazily.

    Keys are `"<camera>/<modality>"` and `"proprio"` (rgb, depth, segmentation, intrinsic_cv, extrinsic_cv, flow).
    `<camera>` is the text of the camera pose, e.g. `"corner2+yaw15"`. What was read once stays readable; what was not
    read before the simulator moved on is gone.

    Attributes:
        camera: The pose this episode is about, first of its cameras; "" when the agent asked for no camera.
        instruction: The task's sentence.
        step: Number of agent steps taken before this observation.
    """

    # One is made at every step, between steps of 0.2 ms.
    __slots__ = (
        "_cameras", "_keys", "_names", "_read", "_simulator", "_stale", "_values", "camera", "instruction", "step"
    )  # fmt: skip

    def __init__(
        self,
        keys: tuple[str, ...],
        read: Callable[[str], Mapping[str, np.ndarray]],
        cameras: Mapping[str, Callable[[], CameraParams]],
        instruction: str,
        step: int,
        simulator: Simulator | None = None,
        segmentation_names: Callable[[], Mapping[int, str]] | None = None,
    ) -> None:
        """Wrap a reader.

        Args:
            keys: Every key that can be read.
            read: Returns the arrays that come with a key (one render pass may give several).
            cameras: Calibration by camera name.
            instruction: The task's sentence.
            step: Number of agent steps taken before this observation.
            simulator: The simulator itself, for privileged agents only.
            segmentation_names: Returns the name of every object id, without 0; None where there is no segmentation.
        """
        self._keys = keys
        self._names = segmentation_names
        self._read = read
        self._cameras = cameras
        self._simulator = simulator
        self._values: dict[str, np.ndarray] = {}
        self._stale = False
        self.camera = next(iter(cameras), "")
        self.instruction = instruction
        self.step = step

    def __getitem__(self, key: str) -> np.ndarray:
        if key not in self._values:
            if key not in self._keys:
                step = "Cameras come from --cameras; modalities from the agent's `needs`."
                raise MissingObservation(str(unknown_name("key", key, self._keys, "This observation", step)))
            self._check_fresh(key)
            self._values.update(self._read(key))
        return self._values[key]

    def __contains__(self, key: object) -> bool:
        # `Mapping` would answer by reading, and so by rendering.
        return key in self._keys

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def rgb(self, camera: str | None = None) -> np.ndarray:
        """Return the uint8 (H, W, 3) image of a camera (default: the episode's)."""
        return self[f"{camera or self.camera}/rgb"]

    def depth_m(self, camera: str | None = None) -> np.ndarray:
        """Return the float32 (H, W) depth image in metres of a camera (default: the episode's)."""
        return self[f"{camera or self.camera}/depth"]

    def segmentation(self, camera: str | None = None) -> np.ndarray:
        """Return the int32 (H, W) object ids of a camera (default: the episode's)."""
        return self[f"{camera or self.camera}/segmentation"]

    @property
    def segmentation_names(self) -> Mapping[int, str]:
        """Name of every object id of `segmentation`, without 0; empty where there is no segmentation."""
        return self._names() if self._names else {}

    def mask(self, *names: str, camera: str | None = None) -> np.ndarray:
        """Return the bool (H, W) mask of the named objects, e.g. of `task.targets`, in a camera (default: the episode's).

        Raises:
            UnknownName: With the nearest name.
        """
        id_of_name = {name: index for index, name in self.segmentation_names.items()}
        for name in names:
            if name not in id_of_name:
                raise unknown_name("segmentation name", name, id_of_name, "This observation")
        return np.isin(self.segmentation(camera), [id_of_name[name] for name in names])

    def camera_params(self, camera: str | None = None) -> CameraParams:
        """Return the calibration of a camera as it stands at this step (default: the episode's)."""
        name = camera or self.camera
        if name not in self._cameras:
            raise unknown_name("camera", name, self._cameras, "This observation")
        self._check_fresh(f"{name}/calibration")
        return self._cameras[name]()

    @property
    def proprio(self) -> np.ndarray:
        """float32 (P,) robot state; its layout stands in the suite's docstring."""
        return self["proprio"]

    @property
    def simulator(self) -> Simulator:
        """The simulator itself.

        Raises:
            PrivilegeError: If the agent did not declare `Needs(privileged=True)`.
        """
        if self._simulator is None:
            raise PrivilegeError(
                "This agent reads the simulator's state but did not declare it. Set `needs = Needs(privileged=True)`; "
                "tables then mark it as privileged."
            )
        return self._simulator

    def expire(self) -> None:
        """Mark that the simulator moves on; called by the environment before each step."""
        self._stale = True

    def _check_fresh(self, key: str) -> None:
        if self._stale:
            raise StaleObservation(
                f"{key!r} of step {self.step} was first read after the simulator had moved on. Read it inside `act`, "
                "before returning the action."
            )


class MissingObservation(UnknownName, KeyError):
    """Raised when an observation has no such key; a `KeyError`, so that `Mapping` methods work."""

    __str__ = Exception.__str__
