"""Readers of demonstration formats; each knows one format and nothing about learning.

`open_demos` tells the formats apart by what a file or folder holds, never by its name.
"""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path
from typing import Any

import h5py

from flowbench.data.demonstration import DemoReader
from flowbench.errors import DataError, unknown_name
from flowbench.suite import load_object

#: Format -> import string of its reader; a reader is built as `Reader(path, **options)`.
FORMATS: dict[str, str] = {
    "flowbench-hdf5": "flowbench.data.readers.flowbench_hdf5:FlowBenchHdf5",
    "libero-hdf5": "flowbench.data.readers.libero_hdf5:LiberoHdf5",
    "calvin-npz": "flowbench.data.readers.calvin_npz:CalvinNpz",
    "avdc-png": "flowbench.data.readers.avdc_png:AvdcPng",
    "lerobot-v3": "flowbench.data.readers.lerobot_v3:LeRobotV3",
}

#: One line per format, for messages: what it looks like on disk.
LOOKS_LIKE = {
    "flowbench-hdf5": "HDF5 file of `flowbench collect`",
    "libero-hdf5": "LIBERO's or robomimic's HDF5 file",
    "calvin-npz": "folder of episode_*.npz",
    "avdc-png": "folder <task>/<camera>/<sequence>/<n>.png",
    "lerobot-v3": "folder with meta/info.json",
}

_HDF5_ENDINGS = (".hdf5", ".h5")
#: What h5py raises for a file whose structure is damaged.
HDF5_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError)


def open_demos(path: str | os.PathLike[str], format: str | None = None, **options: Any) -> DemoReader:
    """Open demonstrations of any known format.

    Args:
        path: A file or folder.
        format: A key of `FORMATS`; None finds it from the content.
        **options: Passed to the format's reader, e.g. `flipped=False` of `libero-hdf5`.

    Raises:
        DataError: If there is nothing there, if it is damaged, or if it is none of the known formats.
        UnknownName: If there is no such format, or its reader has no such option.
        MissingExtra: If the format needs a package that is not installed.
    """
    path = Path(path)
    if format is not None and format not in FORMATS:
        raise unknown_name("format", format, FORMATS)
    name = format or detect_format(path)
    reader = load_object(FORMATS[name])
    # The first parameter is the path.
    allowed = list(inspect.signature(reader).parameters)[1:]
    for option in options:
        if option not in allowed:
            raise unknown_name("option", option, allowed, f"Format {name}")
    return reader(path, **options)


def detect_format(path: Path) -> str:
    """Return the name of the format of a file or folder, from its content.

    Raises:
        DataError: If there is nothing there, if it is damaged, or if it is none of the known formats.
    """
    if path.is_dir():
        return _folder_format(path)
    if not path.exists():
        raise DataError(f"There are no demonstrations at {path}: no such file or folder.")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty (0 bytes), so it holds no demonstrations. Record or download it again.")
    if not h5py.is_hdf5(path):
        raise _foreign(path, "a file that is not HDF5")
    try:
        with open_hdf5(path) as file:
            return _hdf5_format(path, file)
    except HDF5_DAMAGE as error:
        raise DataError(f"{path} is damaged: {error}. Record or download it again.") from error


def demo_files(path: Path) -> list[Path]:
    """Return what to open for a path: a folder's HDF5 files, or else the path itself."""
    if not path.is_dir() or (path / "meta" / "info.json").is_file() or _holds_calvin_steps(path):
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix in _HDF5_ENDINGS) or [path]


def open_hdf5(path: Path) -> h5py.File:
    """Open an HDF5 file for reading.

    Raises:
        DataError: If there is no such file, it is truncated, or it is not HDF5.
    """
    try:
        return h5py.File(path, "r")
    except FileNotFoundError:
        raise DataError(f"There are no demonstrations at {path}: no such file or folder.") from None
    except OSError as error:
        reason = "it is truncated" if "truncated" in str(error) else str(error)
        raise DataError(f"{path} cannot be read as HDF5: {reason}. Record or download it again.") from error


def _hdf5_format(path: Path, file: h5py.File) -> str:
    data = file.get("data")
    if not isinstance(data, h5py.Group):
        raise _foreign(path, f"an HDF5 file without the group /data (it holds {_listed(file)})")
    if "flowbench_format" in data.attrs:
        return "flowbench-hdf5"
    if any(str(name).startswith("demo_") for name in data) or "num_demos" in data.attrs:
        return "libero-hdf5"
    raise _foreign(path, f"an HDF5 file whose /data holds no demo_<number> (it holds {_listed(data)})")


def _folder_format(path: Path) -> str:
    if (path / "meta" / "info.json").is_file():
        return "lerobot-v3"
    if any(_holds_calvin_steps(folder) for folder in (path, path / "training", path / "validation")):
        return "calvin-npz"
    entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    if not entries:
        raise DataError(f"{path} is an empty folder, so it holds no demonstrations.")
    files = [entry.name for entry in entries if entry.name.endswith(_HDF5_ENDINGS)]
    if files:
        example = json.dumps(str(path / files[0]))
        raise DataError(
            f"{path} is a folder of {len(files)} HDF5 files, and a reader opens one of them: open_demos({example}). "
            "DemoDataset takes the folder."
        )
    if _holds_png_sequences(path):
        return "avdc-png"
    names = [entry.name + ("/" if entry.is_dir() else "") for entry in entries]
    raise _foreign(path, f"a folder that holds {_listed(names)}")


def _holds_calvin_steps(folder: Path) -> bool:
    """Return whether a folder has an episode_<number>.npz, looking until the first one: there may be millions."""
    names = (entry.name for entry in os.scandir(folder)) if folder.is_dir() else ()
    return any(name.startswith("episode_") and name.endswith(".npz") for name in names)


def _holds_png_sequences(path: Path) -> bool:
    """Return whether some <task>/<camera>/<sequence> below has PNG files, looking until the first one."""
    entries = (entry for sequence in path.glob("*/*/*/") for entry in os.scandir(sequence))
    return any(entry.name.lower().endswith(".png") for entry in entries)


def _foreign(path: Path, found: str) -> DataError:
    known = "; ".join(f"{name} ({LOOKS_LIKE[name]})" for name in FORMATS)
    return DataError(f"{path} is {found}, which is no format of demonstrations known here. Known: {known}.")


def _listed(names: Any, limit: int = 5) -> str:
    names = [str(name) for name in names]
    if not names:
        return "nothing"
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
