"""What one camera sees of one simulator state, with the rigid body behind every pixel: all that exact flow needs.

Two snapshots of a scene give flow, occlusion, scene flow and tracks between them, however far apart they are. Nothing is
simulated to take one: it reads depth, bodies and body poses of the state as it stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from flowbench.camera import CameraParams, CameraPose
from flowbench.errors import BadValue, FlowBenchError, ShapeError, unknown_name
from flowbench.simulator import BodySource

if TYPE_CHECKING:
    from flowbench.env import TaskEnv
    from flowbench.simulator import Simulator

#: What a snapshot asks of a simulator; one unlit pass in the MuJoCo suites.
_MODALITIES = frozenset({"depth", "segmentation", "bodies"})


@dataclass(frozen=True)
class Snapshot:
    """One view of one state.

    All images have the size and the orientation of `camera`; a mirrored one (the `policy` image view) has fx < 0.

    Attributes:
        depth_m: float32 (H, W) metres along the optical axis; 0 where nothing was hit.
        bodies: int32 (H, W) rigid body behind each pixel; 0 is the static world, and whatever is infinitely far away.
        body_to_world: float64 (N, 4, 4) pose of every body, metres; the first is the identity.
        camera: The calibration; its pose may differ between two snapshots (a wrist camera).
        segmentation: int32 (H, W) object ids as in observations; 0 is background.
        segmentation_names: Name of every object id, without 0.
        rgb: uint8 (H, W, 3), or None if it was not asked for.
    """

    depth_m: np.ndarray
    bodies: np.ndarray
    body_to_world: np.ndarray
    camera: CameraParams
    segmentation: np.ndarray
    segmentation_names: Mapping[int, str] = field(default_factory=dict)
    rgb: np.ndarray | None = None

    def __post_init__(self) -> None:
        shape = (self.camera.height, self.camera.width)
        for name in ("depth_m", "bodies", "segmentation"):
            image = getattr(self, name)
            if image.shape != shape:
                raise ShapeError(f"{name} of a snapshot has shape {image.shape}; expected (height, width) = {shape}.")
        if self.body_to_world.ndim != 3 or self.body_to_world.shape[1:] != (4, 4):
            raise ShapeError(f"body_to_world has shape {self.body_to_world.shape}; expected (N, 4, 4).")

    @cached_property
    def world_to_body(self) -> np.ndarray:
        """(N, 4, 4) inverse of `body_to_world`."""
        inverse = np.zeros_like(self.body_to_world)
        inverse[:, :3, :3] = np.swapaxes(self.body_to_world[:, :3, :3], 1, 2)
        inverse[:, :3, 3] = -np.einsum("nij,nj->ni", inverse[:, :3, :3], self.body_to_world[:, :3, 3])
        inverse[:, 3, 3] = 1
        return inverse

    def mask(self, *names: str) -> np.ndarray:
        """Return the bool (H, W) mask of the named objects, e.g. of `task.targets`.

        Raises:
            UnknownName: With the nearest name.
        """
        id_of_name = {name: index for index, name in self.segmentation_names.items()}
        for name in names:
            if name not in id_of_name:
                raise unknown_name("segmentation name", name, id_of_name, "This snapshot")
        return np.isin(self.segmentation, [id_of_name[name] for name in names])

    def crop(self, left: int, top: int, width: int, height: int) -> Snapshot:
        """Return the snapshot of a window; its camera follows."""
        window = (slice(top, top + height), slice(left, left + width))
        return Snapshot(
            self.depth_m[window],
            self.bodies[window],
            self.body_to_world,
            self.camera.crop(left, top, width, height),
            self.segmentation[window],
            self.segmentation_names,
            None if self.rgb is None else self.rgb[window],
        )

    def mirror(self) -> Snapshot:
        """Return the snapshot of the horizontally mirrored image."""
        images = (self.depth_m, self.bodies, self.segmentation, self.rgb)
        depth_m, bodies, segmentation, rgb = (
            None if image is None else np.ascontiguousarray(image[:, ::-1]) for image in images
        )
        return Snapshot(
            depth_m, bodies, self.body_to_world, self.camera.mirror(), segmentation, self.segmentation_names, rgb
        )


def take_snapshot(env: TaskEnv, camera: str | None = None, *, rgb: bool = False) -> Snapshot:
    """Take a snapshot of an environment as it stands, in its own image view and size.

    Args:
        env: A running environment; it is left exactly as it was.
        camera: Text of a camera pose, which need not be one of the environment's; None takes its first.
        rgb: Whether to render the picture as well (that is the expensive part).

    Raises:
        BadValue: If the simulator does not tell its bodies.
        CameraError: If the pose cannot be read or built.
        UnknownName: If the suite has no such camera.

    Example:
        >>> import flowbench
        >>> from flowbench.flow.snapshot import take_snapshot
        >>> env = flowbench.make("toy", "push")
        >>> _ = env.reset(seed=3)
        >>> take_snapshot(env, "side").depth_m.dtype
        dtype('float32')
    """
    pose = CameraPose.parse(camera if camera is not None else next(iter(env.poses), env.suite.default_view))
    env.suite.check_view(pose.view)
    snapshot = snapshot_of(env.simulator, pose, *env.size_of(pose.view), rgb=rgb)
    return snapshot.mirror() if env.mirrored else snapshot


def snapshot_of(simulator: Simulator, pose: CameraPose, width: int, height: int, *, rgb: bool = False) -> Snapshot:
    """Take a snapshot of a bare simulator, upright and unmirrored; the size is that of its render settings.

    Raises:
        BadValue: If the simulator does not tell its bodies.
    """
    require_bodies(simulator)
    camera = pose.apply(simulator.view(pose.view), simulator.workspace_center_world, width, height)
    frame = simulator.render(pose.view, camera, _MODALITIES | {"rgb"} if rgb else _MODALITIES)
    if frame.depth_m is None or frame.bodies is None or frame.segmentation is None:
        raise FlowBenchError(
            f"{type(simulator).__name__}.render left out something of {', '.join(sorted(_MODALITIES))}."
        )
    return Snapshot(
        frame.depth_m,
        frame.bodies,
        simulator.body_poses(),
        camera,
        frame.segmentation,
        simulator.segmentation_names(),
        frame.rgb,
    )


def tells_bodies(simulator: Simulator) -> TypeGuard[BodySource]:
    """Return whether a simulator is a `BodySource`; a class that inherits from one may have withdrawn it."""
    return callable(getattr(simulator, "body_poses", None))


def require_bodies(simulator: Simulator) -> None:
    """Check that a simulator tells its bodies.

    Raises:
        BadValue: If it does not.
    """
    if not tells_bodies(simulator):
        raise BadValue(
            f"{type(simulator).__name__} does not tell the poses of its bodies, so exact flow cannot be computed there. "
            "Add `body_poses` and the `bodies` image that flowbench.simulator.BodySource describes."
        )
