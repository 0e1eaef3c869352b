"""Simulator states as plain numeric arrays, and back bit for bit: what makes a demonstration replayable without pickle.

A state has a physics vector and `extras`, a nest of dicts, lists and tuples with whatever else the simulator needs. Only
the numbers in it are kept, one array per place; text and objects (file paths of the machine that recorded, for example)
never are. They come from the simulator that a state is restored in, whose own present state serves as a template.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flowbench.data.layout import STATE_EXTRAS
from flowbench.errors import DataError
from flowbench.simulator import SimulatorState

if TYPE_CHECKING:
    import h5py

#: What a place held at a step, besides `scalar:<dtype>` (a NumPy scalar) and `array:<dtype>`, `array_F:<dtype>` (an array
#: in C or Fortran order: products of transposed arrays take another path through BLAS, with other last bits). An array
#: whose shape changes has it as a third part: `array:float64:2x3`.
_NONE, _MISSING = "none", "missing"
_PYTHON_TYPES = {"bool": bool, "int": int, "float": float}
#: Rows per compressed chunk.
_CHUNK_ROWS = 64
#: Smaller arrays are stored as they are.
_COMPRESS_FROM_BYTES = 1024


class Runs(NamedTuple):
    """What a place held over time, run-length encoded.

    Attributes:
        starts: First step of each run, ascending from 0.
        kinds: What it held in each run.
    """

    starts: tuple[int, ...]
    kinds: tuple[str, ...]

    def at(self, step: int) -> str:
        """Return what the place held at a step."""
        return self.kinds[np.searchsorted(self.starts, step, side="right") - 1]


class Place(NamedTuple):
    """One place in the nest over time.

    Attributes:
        values: (T, ...) numbers, or (1, ...) if they never change; zero where the place held no number.
        runs: What the place held.
    """

    values: np.ndarray
    runs: Runs


@dataclass(frozen=True)
class StateRows:
    """The states of one trajectory.

    Attributes:
        physics: (T, S) float64, one physics vector per step.
        places: Numbers beside the physics, by path (`"controller/goal_pos"`).
        nones: Paths that held None at every step.
    """

    physics: np.ndarray
    places: Mapping[str, Place] = field(default_factory=dict)
    nones: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.physics)

    @classmethod
    def pack(cls, states: Sequence[SimulatorState]) -> StateRows:
        """Turn states of one trajectory into arrays.

        Raises:
            DataError: If text changes over time, or a place holds arrays of different dimensions.
        """
        flat = [dict(_leaves(state.extras)) for state in states]
        places, nones = {}, []
        for path in dict.fromkeys(path for leaves in flat for path in leaves):
            values = [leaves.get(path, _ABSENT) for leaves in flat]
            kinds = [_kind(value) for value in values]
            if set(kinds) == {_NONE}:
                nones.append(path)
            elif None in kinds:
                _check_unchanging(path, values)
            else:
                places[path] = _pack_place(path, values, kinds)
        physics = np.array([state.physics for state in states], dtype=np.float64)
        return cls(physics, places, tuple(nones))

    def restore(self, step: int, template: SimulatorState) -> SimulatorState:
        """Return the state of one step.

        Args:
            step: Index from 0.
            template: Any state of the simulator that this one is restored in; what is not a number comes from it.

        Raises:
            DataError: If the state belongs to another task or another version of the simulator.
        """
        if self.physics.shape[1:] != template.physics.shape:
            raise DataError(
                f"The stored states have {self.physics.shape[1]} numbers and this simulator's have {template.physics.size}: "
                "they come from another task, or from another version of the simulator."
            )
        wanted = {path: _value(place, step) for path, place in self.places.items()}
        wanted |= dict.fromkeys(self.nones)
        extras = _filled(template.extras, "", wanted)
        for path, value in wanted.items():
            if value is not _ABSENT:
                _insert(extras, path, value)
        return SimulatorState(self.physics[step].copy(), extras)

    def write(self, group: h5py.Group, level: int = 4) -> None:
        """Write into a demonstration's group as `flowbench.data.layout` says; `level` is gzip's."""
        _write_rows(group, "states", self.physics, level)
        if not self.places and not self.nones:
            return
        extras = group.create_group(STATE_EXTRAS)
        extras.attrs["none"] = np.bytes_(json.dumps(self.nones))
        # One attribute for all: HDF5 takes as long for each as for an array.
        kinds = {path: list(zip(*place.runs, strict=True)) for path, place in self.places.items()}
        extras.attrs["kinds"] = np.bytes_(json.dumps(kinds))
        for path, place in self.places.items():
            _write_rows(extras, path, place.values, level)

    @classmethod
    def read(cls, group: h5py.Group) -> StateRows:
        """Read what `write` wrote.

        Raises:
            DataError: If the group holds no states, or they are incomplete.
        """
        if "states" not in group:
            raise DataError(
                f"{group.name} holds no states; it was collected without them (--action-free, or a foreign file)."
            )
        places: dict[str, Place] = {}
        nones: tuple[str, ...] = ()
        try:
            physics = group["states"][()]
            if STATE_EXTRAS in group:
                extras = group[STATE_EXTRAS]
                nones = tuple(json.loads(extras.attrs["none"]))
                for path, runs in json.loads(extras.attrs["kinds"]).items():
                    starts, kinds = zip(*runs, strict=True)
                    places[path] = Place(extras[path][()], Runs(starts, kinds))
        except (OSError, KeyError, ValueError) as error:
            raise DataError(f"The states of {group.name} cannot be read: {error}.") from error
        steps = len(physics)
        for path, place in places.items():
            if len(place.values) not in (1, steps):
                raise DataError(
                    f"{group.name}/{STATE_EXTRAS}/{path} has {len(place.values)} rows; expected {steps}, or one if constant."
                )
        return cls(physics, places, nones)


_ABSENT = object()


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (path, value) of everything that is not a dict, list or tuple."""
    if isinstance(node, Mapping):
        items: Any = node.items()
    elif isinstance(node, (list, tuple)):
        items = enumerate(node)
    else:
        yield path, node
        return
    for key, child in items:
        name = str(key)
        if "/" in name or name in ("", "."):
            raise DataError(
                f"A simulator state has an entry named {name!r} under {path!r}; names in a file hold no slash."
            )
        yield from _leaves(child, f"{path}/{name}" if path else name)


def _kind(value: Any) -> str | None:
    """Say what a place holds; None for what is not stored."""
    if value is _ABSENT:
        return _MISSING
    if value is None:
        return _NONE
    if type(value).__name__ in _PYTHON_TYPES:
        return type(value).__name__
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return f"scalar:{_name(value.dtype)}"
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        fortran = value.flags.f_contiguous and not value.flags.c_contiguous
        return f"array_F:{_name(value.dtype)}" if fortran else f"array:{_name(value.dtype)}"
    return None


#: Writing out the name of a NumPy type takes longer than everything else here.
_name = cache(str)


def _check_unchanging(path: str, values: list[Any]) -> None:
    """Refuse text that changes over time; other objects are the simulator's own business."""
    first = values[0]
    text = any(isinstance(value, (str, bytes)) for value in values)
    if text and any(type(value) is not type(first) or value != first for value in values):
        raise DataError(
            f"The simulator's {path!r} is text at some steps ({first!r:.60}) and changes, so its states cannot be stored. Its "
            "author should keep numbers there, or leave it out of `get_state().extras`."
        )


def _pack_place(path: str, values: list[Any], kinds: list[str]) -> Place:
    filled = [step for step, kind in enumerate(kinds) if kind not in (_NONE, _MISSING)]
    numbers = [np.asarray(values[step]) for step in filled]
    shapes = {number.shape for number in numbers}
    if len({len(shape) for shape in shapes}) > 1:
        raise DataError(
            f"The simulator's {path!r} has arrays of different dimensions in one episode: {sorted(shapes)}."
        )
    if len(shapes) > 1:
        # Smaller arrays go into the corner of the largest, and their own shape into the kind.
        for step, number in zip(filled, numbers, strict=True):
            kinds[step] += ":" + "x".join(map(str, number.shape))
    dtype = np.result_type(*{number.dtype for number in numbers})
    rows = np.zeros((len(values), *np.max(list(shapes), axis=0).astype(int)), dtype)
    for step, number in zip(filled, numbers, strict=True):
        rows[(step, *map(slice, number.shape))] = number
        if number.dtype != dtype and not np.array_equal(
            rows[(step, *map(slice, number.shape))].astype(number.dtype), number, equal_nan=True
        ):
            raise DataError(f"The simulator's {path!r} mixes numbers that no one type holds exactly.")
    changes = [0, *(step for step in range(1, len(kinds)) if kinds[step] != kinds[step - 1])]
    runs = Runs(tuple(changes), tuple(kinds[step] for step in changes))
    first = rows[0].tobytes()
    constant = all(row.tobytes() == first for row in rows)
    return Place(rows[:1] if constant else rows, runs)


def _value(place: Place, step: int) -> Any:
    """Return what a place held at a step, in its own type and memory order."""
    kind = place.runs.at(step)
    if kind in (_NONE, _MISSING):
        return None if kind == _NONE else _ABSENT
    row = place.values[step if len(place.values) > 1 else 0]
    if kind in _PYTHON_TYPES:
        return _PYTHON_TYPES[kind](row)
    container, dtype, *shape = kind.split(":")
    if container == "scalar":
        return np.dtype(dtype).type(row)
    if shape:
        row = row[tuple(slice(int(size)) for size in shape[0].split("x"))]
    return np.array(row, dtype=dtype, order="F" if container == "array_F" else "C")


def _filled(node: Any, path: str, wanted: dict[str, Any]) -> Any:
    """Copy a template with the wanted values; those that were used are taken out of `wanted`."""
    if isinstance(node, Mapping):
        copy = {}
        for key, child in node.items():
            value = _filled(child, f"{path}/{key}" if path else str(key), wanted)
            if value is not _ABSENT:
                copy[key] = value
        return copy
    if isinstance(node, (list, tuple)):
        values = [_filled(child, f"{path}/{index}" if path else str(index), wanted) for index, child in enumerate(node)]
        if any(value is _ABSENT for value in values):
            raise DataError(f"The stored states have fewer entries in {path!r} than this simulator's.")
        # A named tuple is built from its entries one by one.
        return type(node)(*values) if hasattr(node, "_fields") else type(node)(values)
    if path in wanted:
        return wanted.pop(path)
    # A number that the recording did not have at all was set later.
    return node if _kind(node) is None else _ABSENT


def _insert(extras: dict[str, Any], path: str, value: Any) -> None:
    """Add a value that the template lacks."""
    *parents, name = path.split("/")
    node: Any = extras
    for parent in parents:
        node = node.setdefault(parent, {}) if isinstance(node, dict) else None
    if not isinstance(node, dict):
        raise DataError(
            f"The stored states have {path!r}, for which this simulator's state has no room: they come from another task, or "
            "from another version of the simulator."
        )
    node[name] = value


def _write_rows(group: h5py.Group, name: str, rows: np.ndarray, level: int) -> h5py.Dataset:
    if len(rows) < 2 or rows.nbytes < _COMPRESS_FROM_BYTES or 0 in rows.shape:
        return group.create_dataset(name, data=rows)
    chunks = (min(len(rows), _CHUNK_ROWS), *rows.shape[1:])
    return group.create_dataset(
        name, data=rows, chunks=chunks, compression="gzip", compression_opts=level, shuffle=True
    )
