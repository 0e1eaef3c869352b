"""From a policy's observation space to what an episode must show, and from an observation to what the policy takes.

A `Dict` space has the keys of a FlowBench observation (`corner/rgb`, `proprio`). A space without keys is the image of the
episode's camera if it looks like one, else `proprio`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from gymnasium import spaces

from flowbench.agent import Needs
from flowbench.camera import CameraPose
from flowbench.errors import BadValue, ShapeError, unknown_name
from flowbench.observation import Observation

#: Last part of a key -> the modality that brings it.
MODALITY_OF = {
    "rgb": "rgb",
    "depth": "depth",
    "segmentation": "segmentation",
    "intrinsic_cv": "calibration",
    "extrinsic_cv": "calibration",
}


@dataclass(frozen=True)
class PolicyInputs:
    """What a policy takes.

    Attributes:
        shapes: Shape of every array, by key. The camera of a key without one (`/rgb`) is the episode's.
        keyed: Whether the policy takes a dict; else there is one array.
    """

    shapes: Mapping[str, tuple[int, ...]]
    keyed: bool

    @classmethod
    def of(cls, space: spaces.Space) -> PolicyInputs:
        """Read an observation space.

        Raises:
            UnknownName: If a key is not one of an observation.
            BadValue: If it is a space that observations do not have.
        """
        keyed = isinstance(space, spaces.Dict)
        parts = dict(space.spaces) if keyed else {"/rgb" if len(space.shape or ()) == 3 else "proprio": space}
        for key, part in parts.items():
            if not isinstance(part, spaces.Box):
                where = f"{key} of the policy's observations" if keyed else "The policy's observation"
                raise BadValue(f"{where} is a {type(part).__name__}; FlowBench's observations are arrays (Box).")
            if key != "proprio" and key.rpartition("/")[2] not in MODALITY_OF:
                allowed = ["proprio", *(f"<camera>/{name}" for name in MODALITY_OF)]
                raise unknown_name("key", key, allowed, "An observation", "Train on the keys of flowbench.make.")
        return cls({key: tuple(part.shape) for key, part in parts.items()}, keyed)

    @property
    def cameras(self) -> tuple[str, ...]:
        """The cameras that are named."""
        return tuple(dict.fromkeys(key.rpartition("/")[0] for key in self.shapes if "/" in key and key[0] != "/"))

    def needs(self) -> Needs:
        """Return what an episode must show.

        Raises:
            BadValue: If images differ in size.
        """
        modalities = dict.fromkeys(MODALITY_OF[key.rpartition("/")[2]] for key in self.shapes if "/" in key)
        sizes = {key: _image_size(key, shape) for key, shape in self.shapes.items() if _is_image(key)}
        if len(set(sizes.values())) > 1:
            text = ", ".join(f"{key} {width}x{height}" for key, (width, height) in sizes.items())
            raise BadValue(f"The policy's images differ in size ({text}); FlowBench renders one size per episode.")
        # With one camera the episode's own is shown under its name; of several, nobody knows yet which one that will be.
        several = self.cameras if len(self.cameras) > 1 else ()
        size = next(iter(sizes.values()), None)
        return Needs(modalities=tuple(modalities), extra_cameras=several, image_size=size)

    def check_camera(self, episode_camera: str) -> None:
        """Check that the episode's camera is one that the policy knows; a displaced pose counts as its base view.

        Raises:
            BadValue: With the cameras it knows.
        """
        known = {CameraPose.parse(name).view for name in self.cameras}
        if known and CameraPose.parse(episode_camera).view not in known:
            raise BadValue(
                f"The policy was trained on camera {', '.join(self.cameras)}, and this episode is seen from "
                f"{episode_camera}. Evaluate it with --cameras {self.cameras[0]}."
            )

    def gather(self, observation: Observation) -> np.ndarray | dict[str, np.ndarray]:
        """Return what the policy takes, images channel first where it was trained so.

        Raises:
            ShapeError: If an array has another shape than the policy's, or is missing: which, and why.
        """
        arrays = {key: self._read(key, shape, observation) for key, shape in self.shapes.items()}
        return arrays if self.keyed else next(iter(arrays.values()))

    def _read(self, key: str, shape: tuple[int, ...], observation: Observation) -> np.ndarray:
        camera, _, name = key.rpartition("/")
        wanted = key
        own = CameraPose.parse(observation.camera).view if observation.camera else ""
        if "/" in key and (not camera or CameraPose.parse(camera).view == own):
            wanted = f"{observation.camera}/{name}"
        if wanted not in observation:
            raise ShapeError(f"The policy takes {key}, and the observation has {', '.join(observation)}.")
        array = observation[wanted]
        if name == "rgb" and array.shape != shape and array.transpose(2, 0, 1).shape == shape:
            # VecTransposeImage, which Stable-Baselines3 puts around environments with images, saved this shape.
            array = array.transpose(2, 0, 1)
        if array.shape != shape:
            hint = ""
            if (
                name == "rgb"
                and len(shape) == 3
                and (shape[0] % 3 == 0 < shape[0] - 3 or shape[-1] % 3 == 0 < shape[-1] - 3)
            ):
                hint = " Stacked frames (VecFrameStack) are not supported; train on single ones."
            elif name == "proprio":
                hint = " Its layout is the suite's: evaluate on the suite that it was trained on."
            raise ShapeError(
                f"{wanted} has shape {array.shape}, but the policy was trained on {key} of shape {shape}.{hint}"
            )
        return np.ascontiguousarray(array)


def _is_image(key: str) -> bool:
    return key.rpartition("/")[2] in ("rgb", "depth", "segmentation")


def _image_size(key: str, shape: tuple[int, ...]) -> tuple[int, int]:
    """Return (width, height) of an image's shape."""
    if len(shape) == 2:
        return shape[1], shape[0]
    if len(shape) == 3 and key.endswith("/rgb"):
        channel_first = shape[0] % 3 == 0 and shape[0] < min(shape[1:])
        return (shape[2], shape[1]) if channel_first else (shape[1], shape[0])
    raise BadValue(f"{key} of the policy's observations has shape {shape}, which is no image.")
