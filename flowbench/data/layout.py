"""The layout of FlowBench's demonstration files: robomimic's and LIBERO's HDF5 layout, with what those lack.

    /data                     attributes: total (steps of all demonstrations), num_demos, env_args (JSON as robomimic reads
                              it), flowbench_format, flowbench_version, spec (JSON of what was collected, and how),
                              provenance (JSON: command, versions), cameras (JSON list), image_convention "upright"; with
                              one task also LIBERO's problem_info (JSON with language_instruction)
    /mask/<task>              names of the demonstrations of a task, as robomimic's filter keys
    /data/demo_0              attributes: num_samples (T), suite, protocol, task, instruction, scenario (key), seed,
                              init_state, episode_id, agent, success, segmentation_names (JSON), checksum
      actions (T, A) float64          what was executed, noise included
      expert_actions (T, A) float64   what the agent asked for; only where noise was added
      prefix_actions (N, A) float64   random actions after the protocol's settle steps and before row 0; only with
                                      --start-noise. Playing back means reset, settle, prefix_actions, actions
      rewards (T,) float64; dones (T,) uint8
      states (T, S) float64           the physics vector before each action; on MuJoCo it starts with time, qpos, qvel
      final_state (S,) float64        the physics vector after the last action
      state_extras/<path> (T or 1, ...)   numbers that the simulator keeps beside the physics; one row if constant; the
                                      attributes `kinds` and `none` are those of `flowbench.data.states`
      obs/proprio (T, P) float32
      obs/<field> (T, n)              named parts that the suite declares, e.g. LIBERO's ee_pos, gripper_states
      obs/<camera>_rgb (T, H, W, 3) uint8, upright
      obs/<camera>_depth (T, H, W)    attribute `unit_m`: metres per unit (0.001 for uint16 millimetres, 1.0 for floats)
      obs/<camera>_segmentation (T, H, W) uint8 or uint16
      obs/<camera>_intrinsic_cv (T, 3, 3), obs/<camera>_extrinsic_cv (T, 4, 4) float32, OpenCV axes, world to camera
      obs/<camera>_semantic (T, H, W, 3) uint8: the semantic flow image (docs/visa-flow.md), in files of `flowbench data visa`
      obs/<alias>_rgb                 a soft link for loaders that know a camera by another name (LIBERO: eye_in_hand_rgb)

Images are stored one step per chunk, losslessly compressed with gzip, which every HDF5 reader has: any step is read
without decoding another one. An action-free file has only images, calibration and attributes.

Sources: robomimic's dataset documentation (dataset structure), LIBERO's `libero_dataset` script and `utils/dataset_utils`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from flowbench.errors import BadValue

if TYPE_CHECKING:
    import h5py

#: Number in the attribute `flowbench_format`; a reader refuses larger ones.
FORMAT_VERSION = 1

DATA = "data"
OBS = "obs"
STATE_EXTRAS = "state_extras"
MASK = "mask"

#: How depth may be stored: NumPy type and metres per unit. uint16 holds 65.535 m in millimetres.
DEPTH_FORMATS: dict[str, tuple[str, float]] = {
    "uint16": ("uint16", 0.001),
    "float16": ("float16", 1.0),
    "float32": ("float32", 1.0),
}

#: Modality of an observation key -> ending of its data set's name.
CAMERA_SUFFIXES = ("rgb", "depth", "segmentation", "intrinsic_cv", "extrinsic_cv", "semantic")


def dataset_name(key: str) -> str:
    """Return the name under `obs` of an observation key: `corner/rgb` is stored as `corner_rgb`."""
    camera, _, item = key.rpartition("/")
    return f"{camera}_{item}" if camera else item


def observation_key(name: str) -> str:
    """Return the observation key of a data set under `obs`; the inverse of `dataset_name`."""
    for suffix in CAMERA_SUFFIXES:
        if name.endswith(f"_{suffix}"):
            return f"{name.removesuffix(f'_{suffix}')}/{suffix}"
    return name


def encode_depth(depth_m: np.ndarray, format_name: str) -> np.ndarray:
    """Turn float32 metres into what is stored.

    Args:
        depth_m: Metres along the optical axis, 0 where nothing was hit.
        format_name: A key of `DEPTH_FORMATS`.

    Raises:
        BadValue: If a depth does not fit the format.
    """
    dtype, unit_m = DEPTH_FORMATS[format_name]
    scaled = np.asarray(depth_m, dtype=np.float64) / unit_m
    limit = np.iinfo(dtype).max if dtype.startswith("uint") else np.finfo(dtype).max
    if scaled.size and scaled.max() > limit:
        raise BadValue(
            f"A depth of {float(np.max(depth_m)):.1f} m does not fit --depth-format {format_name}, which holds up to "
            f"{limit * unit_m:g} m. Choose --depth-format float32."
        )
    return (np.rint(scaled) if dtype.startswith("uint") else scaled).astype(dtype)


def decode_depth(stored: np.ndarray, unit_m: float) -> np.ndarray:
    """Return float32 metres from what is stored."""
    return (stored * unit_m).astype(np.float32) if unit_m != 1.0 else stored.astype(np.float32)


def smallest_unsigned(largest: int) -> Any:
    """Return the smallest unsigned type that holds `largest`; for segmentation ids."""
    return np.uint8 if largest < 2**8 else np.uint16 if largest < 2**16 else np.uint32


def data_sets(group: h5py.Group, prefix: str = "") -> Iterator[tuple[str, h5py.Dataset]]:
    """Yield (path, data set) of everything in a demonstration, sorted by path; aliases (soft links) are left out."""
    import h5py

    for name in sorted(group):
        if isinstance(group.get(name, getlink=True), h5py.SoftLink):
            continue
        item, path = group[name], f"{prefix}{name}"
        if isinstance(item, h5py.Group):
            yield from data_sets(item, f"{path}/")
        else:
            yield path, item


def checksum(group: h5py.Group) -> str:
    """Return the SHA-256 of a demonstration's arrays, as its attribute `checksum` holds it.

    Hashed is one line per data set, in the order of `data_sets`: path, NumPy dtype, shape, and the SHA-256 of its rows in
    C order, separated by spaces. Attributes are not part of it.

    Raises:
        OSError: If a chunk cannot be decoded.
    """
    whole = hashlib.sha256()
    for path, data_set in data_sets(group):
        rows = hashlib.sha256()
        # A block at a time: a whole episode of images need not fit into memory.
        length = data_set.chunks[0] if data_set.chunks else max(1, len(data_set))
        for start in range(0, len(data_set), length):
            rows.update(np.ascontiguousarray(data_set[start : start + length]).data)
        whole.update(f"{path} {data_set.dtype.str} {data_set.shape} {rows.hexdigest()}\n".encode())
    return whole.hexdigest()
