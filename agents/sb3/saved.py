"""What a Stable-Baselines3 zip says about itself, read without running what is in it.

The zip's `data` entry is JSON with pickled values. The two spaces are wanted before the policy is loaded, to say in one
sentence what does not fit; a pickle that names nothing but gymnasium's spaces and NumPy arrays is safe to read.
"""

from __future__ import annotations

import base64
import io
import json
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gymnasium import spaces

from flowbench.errors import DataError

_SPACES = {"dict.Dict", "box.Box", "discrete.Discrete", "multi_discrete.MultiDiscrete", "multi_binary.MultiBinary"}
_ARRAYS = {
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("collections", "OrderedDict"),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
}


@dataclass(frozen=True)
class SavedPolicy:
    """A zip as it lies on disk.

    Attributes:
        path: The file.
        policy_module: Where its policy class comes from, e.g. `stable_baselines3.sac.policies`; may be empty.
        observation_space: What the policy was trained on; None if only unpickling could tell.
        action_space: Likewise for its actions.
    """

    path: Path
    policy_module: str
    observation_space: spaces.Space | None
    action_space: spaces.Space | None


def read_saved(path: str) -> SavedPolicy:
    """Read what a zip says about itself.

    Raises:
        DataError: If it is not a zip of Stable-Baselines3.
    """
    file = Path(path)
    if not file.is_file():
        raise DataError(
            f"There is no policy at {path!r}: no such file. A policy is the zip that model.save(...) wrote."
        )
    try:
        with zipfile.ZipFile(file) as archive:
            content = json.loads(archive.read("data"))
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise DataError(
            f"{path} is no zip of Stable-Baselines3 ({error}). A policy is the file that model.save(...) wrote."
        ) from error
    policy = content.get("policy_class")
    module = policy.get("__module__", "") if isinstance(policy, Mapping) else ""
    return SavedPolicy(file, module, _space(content.get("observation_space")), _space(content.get("action_space")))


def _space(entry: Any) -> spaces.Space | None:
    try:
        found = _SpaceUnpickler(io.BytesIO(base64.b64decode(entry[":serialized:"]))).load()
    except Exception:  # a damaged, foreign or hostile pickle raises nearly anything
        return None
    return found if isinstance(found, spaces.Space) else None


class _Ignored:
    """Stands in for a space's random generator, which nobody draws from here."""

    def __init__(self, *args: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class _SpaceUnpickler(pickle.Unpickler):
    """Lets through what a space is made of, and nothing that could do anything else."""

    def find_class(self, module: str, name: str) -> Any:
        # Policies from before gymnasium name gym's spaces, which have the same state.
        module = module.replace("gym.spaces", "gymnasium.spaces") if module.startswith("gym.") else module
        if f"{module}.{name}".removeprefix("gymnasium.spaces.") in _SPACES:
            return getattr(spaces, name)
        if (module, name) in _ARRAYS:
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        if module.startswith("numpy.random"):
            return _Ignored
        raise pickle.UnpicklingError(f"{module}.{name}")
