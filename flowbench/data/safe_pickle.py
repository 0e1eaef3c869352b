"""Pickled data from the internet, read without running what is in it.

CALVIN's annotations and AVDC's actions are pickles. A pickle may name any function to be called, so only what rebuilds
NumPy arrays and plain containers is let through.
"""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from flowbench.errors import DataError

#: What pickles of arrays, NumPy scalars and plain containers name. NumPy 2 renamed `numpy.core` to `numpy._core`.
_ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
    # bytes of protocol 2 and below
    ("_codecs", "encode"),
    ("builtins", "set"),
    ("builtins", "frozenset"),
    ("builtins", "bytearray"),
    ("builtins", "complex"),
    ("collections", "OrderedDict"),
}


class _Refused(Exception):
    """Raised when a pickle names something else."""


class _DataUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        # As Python 2 named it; so do protocols 0 to 2.
        module = "builtins" if module == "__builtin__" else module
        if (module, name) not in _ALLOWED:
            raise _Refused(f"{module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def load_pickle(path: str | os.PathLike[str]) -> Any:
    """Load a pickle of NumPy arrays and plain containers.

    Raises:
        DataError: If the file is missing or damaged, or names anything else.
    """
    path = Path(path)
    with _open(path) as file:
        return _unpickle(file, path)


def load_npy(path: str | os.PathLike[str]) -> Any:
    """Load a .npy file, also one that holds pickled containers (`np.save` of a dict gives a 0-d array, unwrapped here).

    Raises:
        DataError: If the file is missing, damaged or not .npy, or names anything else.
    """
    path = Path(path)
    with _open(path) as file:
        try:
            version = np.lib.format.read_magic(file)
            header = {1: np.lib.format.read_array_header_1_0}.get(version[0], np.lib.format.read_array_header_2_0)
            _, _, dtype = header(file)
            if not dtype.hasobject:
                file.seek(0)
                return np.load(file, allow_pickle=False)
        except Exception as error:  # a damaged header raises nearly anything
            raise DataError(f"{path} cannot be read as .npy: {error}. Download it again.") from error
        loaded = _unpickle(file, path)
    return loaded.item() if isinstance(loaded, np.ndarray) and loaded.shape == () else loaded


def _open(path: Path) -> BinaryIO:
    try:
        return io.BytesIO(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error


def _unpickle(file: BinaryIO, path: Path) -> Any:
    try:
        return _DataUnpickler(file).load()
    except _Refused as refused:
        raise DataError(
            f"{path} was not loaded: it is a pickle that wants to use {refused}, and data needs nothing beyond NumPy "
            "arrays, numbers, strings and containers. It may be an attack; get the file from its publisher."
        ) from None
    except Exception as error:  # a damaged pickle raises nearly anything
        raise DataError(f"{path} cannot be read as a pickle: {error}. Download it again.") from error
