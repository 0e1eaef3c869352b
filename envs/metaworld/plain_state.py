"""The part of a Meta-World environment's state that lives outside MuJoCo's state vector.

Meta-World keeps what an episode depends on in three more places: plain Python attributes (the last observation, the goal,
reward constants), entries of the model that its reset moves (where the door stands), and derived positions that it
overwrites or leaves stale. A snapshot without them goes on differently.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

#: What `reset_model` of the 50 tasks writes into the model (read in metaworld 3.1.1).
MODEL_ARRAYS = ("body_pos", "site_pos")
#: Positions that MuJoCo derives from its state, and that Meta-World reads before they are derived anew.
DERIVED_ARRAYS = (
    "xpos",
    "xquat",
    "xmat",
    "xipos",
    "ximat",
    "geom_xpos",
    "geom_xmat",
    "site_xpos",
    "site_xmat",
    "cam_xpos",
    "cam_xmat",
    "light_xpos",
    "light_xdir",
)
_IMMUTABLE = (type(None), bool, int, float, str, np.generic)
_PLAIN = (*_IMMUTABLE, np.ndarray, tuple, list, dict)


def copy_arrays(owner: Any, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Copy named arrays of a model or its data."""
    return {name: getattr(owner, name).copy() for name in names}


def restore_arrays(owner: Any, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays back, in place."""
    for name, values in arrays.items():
        getattr(owner, name)[:] = values


def copy_attributes(env: Any) -> dict[str, Any]:
    """Copy every plain attribute of a Meta-World environment.

    Attributes that are windows onto MuJoCo's memory are left out: `basketball` keeps its goal as one, and a copy of it
    would no longer follow the hoop.
    """
    return {
        name: value if isinstance(value, _IMMUTABLE) else copy.deepcopy(value)
        for name, value in vars(env).items()
        if isinstance(value, _PLAIN) and not _is_window(env, value)
    }


def restore_attributes(env: Any, attributes: Mapping[str, Any]) -> None:
    """Make the plain attributes of an environment those of a copy; later ones are removed."""
    stored = vars(env)
    for name in [name for name, value in stored.items() if isinstance(value, _PLAIN) and name not in attributes]:
        if not _is_window(env, stored[name]):
            del stored[name]
    for name, value in attributes.items():
        stored[name] = value if isinstance(value, _IMMUTABLE) else copy.deepcopy(value)


def _is_window(env: Any, value: Any) -> bool:
    if not isinstance(value, np.ndarray) or value.flags.owndata:
        return False
    return any(np.may_share_memory(value, getattr(env.data, name)) for name in DERIVED_ARRAYS)
