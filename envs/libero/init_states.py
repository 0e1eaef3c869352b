"""Official initial states from disk, without running anything that a file asks for.

LIBERO stores them with `torch.save`, which is a pickle in a zip archive: newer torch refuses it, older torch would execute
it. Both the original files and the converted `.npz` of newer distributions are read here, and neither needs torch.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from flowbench.errors import BadValue, FlowBenchError


def load_init_states(path: Path) -> np.ndarray:
    """Read the initial states of one task.

    Args:
        path: The `.pruned_init` file as LIBERO names it; `<path>.npz` is taken if it exists.

    Returns:
        (N, 1 + nq + nv) float64: time in seconds, MuJoCo's qpos and qvel.

    Raises:
        FlowBenchError: If neither file exists.
        BadValue: If a file holds anything but an array.
    """
    converted = path.with_name(path.name + ".npz")
    if converted.is_file():
        with np.load(converted, allow_pickle=False) as archive:
            states = archive["states"]
    elif path.is_file():
        states = _read_torch_archive(path)
    else:
        raise FlowBenchError(
            f"LIBERO's initial states {path.name!r} do not exist in {str(path.parent)!r}, nor does {converted.name!r}. "
            "Reinstall LIBERO: pip install --force-reinstall 'flowbench[libero]'"
        )
    if not isinstance(states, np.ndarray) or states.ndim != 2 or states.dtype != np.float64:
        raise BadValue(f"Initial states {str(path)!r} are not a float64 matrix with one state per row.")
    return states


class _ArrayUnpickler(pickle.Unpickler):
    """Builds NumPy arrays and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        # The module of `_reconstruct` moved between NumPy 1 and 2; an array itself knows where it is.
        reconstruct = np.zeros(0).__reduce__()[0]
        allowed = {
            ("numpy.core.multiarray", "_reconstruct"): reconstruct,
            ("numpy._core.multiarray", "_reconstruct"): reconstruct,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("_codecs", "encode"): _latin1_bytes,
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"{module}.{name} is not part of an array")
        return allowed[module, name]


def _latin1_bytes(text: str, encoding: str) -> bytes:
    """Stand in for `_codecs.encode`, with the one codec that protocol 2 uses for bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"codec {encoding!r} is not part of an array")
    return text.encode("latin1")


def _read_torch_archive(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            return _ArrayUnpickler(io.BytesIO(archive.read(name))).load()
    except (zipfile.BadZipFile, StopIteration, pickle.UnpicklingError, EOFError) as error:
        raise BadValue(
            f"Initial states {str(path)!r} could not be read as an array ({error or type(error).__name__}). Download the "
            "file again, or convert it to an .npz with the key 'states'."
        ) from error
