"""Names for what the segmentation shows, because geom numbers change between Meta-World versions.

One id stands for one part. A part is named after its body (`obj`); where a body has several visible kinds of geoms, after
the body and the geom (`door_link/handle`), its mesh (`door_link/door`) or, for the unnamed, its shape
(`faucet_link2/capsule`). Geoms of a body that share a name share the id. Markers are `site/<name>`.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import mujoco
import numpy as np

#: MuJoCo draws groups 0 to 2 unless told otherwise; Meta-World keeps its collision shapes in group 4.
_VISIBLE_GROUPS = 3


class Parts(NamedTuple):
    """The parts of one model.

    Attributes:
        names: Name of every id, from 1; without the background.
        id_of_element: int32 (1 + ngeom + nsite,) id by 1 + element of `MujocoFrame.element_ids`; entry 0 is background.
    """

    names: dict[int, str]
    id_of_element: np.ndarray


def name_parts(model: mujoco.MjModel) -> Parts:
    """Name every geom and site of a model that can be seen."""
    names_of_body: dict[str, dict[int, str]] = defaultdict(dict)
    for geom in range(model.ngeom):
        if model.geom_group[geom] < _VISIBLE_GROUPS and model.geom_rgba[geom, 3] > 0:
            names_of_body[_body_name(model, model.geom_bodyid[geom])][geom] = _geom_label(model, geom)
    names: dict[int, str] = {}
    for body, labels in names_of_body.items():
        whole = len(set(labels.values())) == 1 and body != "world"
        for geom, label in labels.items():
            names[geom] = body if whole else label if body == "world" else f"{body}/{label}"
    for site in range(model.nsite):
        if model.site_group[site] < _VISIBLE_GROUPS and model.site_rgba[site, 3] > 0:
            label = model.site(site).name or _body_name(model, model.site_bodyid[site])
            names[model.ngeom + site] = f"site/{label}"
    id_of_name = {name: index for index, name in enumerate(dict.fromkeys(names.values()), start=1)}
    id_of_element = np.zeros(1 + model.ngeom + model.nsite, np.int32)
    for element, name in names.items():
        id_of_element[1 + element] = id_of_name[name]
    return Parts({index: name for name, index in id_of_name.items()}, id_of_element)


def _body_name(model: mujoco.MjModel, body: int) -> str:
    while not model.body(body).name:
        body = model.body_parentid[body]
    return model.body(body).name


def _geom_label(model: mujoco.MjModel, geom: int) -> str:
    if model.geom(geom).name:
        return model.geom(geom).name
    if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_MESH:
        return model.mesh(model.geom_dataid[geom]).name
    return mujoco.mjtGeom(model.geom_type[geom]).name.removeprefix("mjGEOM_").lower()
