"""Pictures for a recording that has none, or others: rendered from its stored states into a new file.

Everything else is copied as it is. What comes out is what collecting with these cameras would have stored.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py

from flowbench.data.collect_spec import CollectSpec
from flowbench.data.layout import OBS, checksum, data_sets, observation_key
from flowbench.data.pool import Crash, map_demos
from flowbench.data.readers import open_demos
from flowbench.data.readers.flowbench_hdf5 import FlowBenchHdf5
from flowbench.data.rendering import observe_states, rendering_env
from flowbench.data.replay import scenario_of
from flowbench.data.states import StateRows
from flowbench.data.writer import PART_GROUP, Check, merge, write_file, write_images
from flowbench.env import EnvConfig, TaskEnv
from flowbench.errors import BadValue, DataError, RunFailed, StoreError
from flowbench.registry import get_suite
from flowbench.simulator import MODALITIES

_AFTER_FAILURE = "The file that was read is unchanged; make room, or choose another --out."


@dataclass(frozen=True)
class RenderRequest:
    """What to render; None keeps what the recording was collected with, or takes all modalities if it has none.

    Attributes:
        cameras: Camera poses, by text.
        modalities: Subset of rgb, depth, segmentation, calibration.
        image_size: (width, height) in pixels.
        depth_format: How depth is stored.
        profile: Render profile.
    """

    cameras: tuple[str, ...] | None = None
    modalities: tuple[str, ...] | None = None
    image_size: tuple[int, int] | None = None
    depth_format: str | None = None
    profile: str | None = None

    def applied_to(self, spec: CollectSpec) -> CollectSpec:
        """Return the spec of the new file.

        Raises:
            FlowBenchError: If the suite has no such camera, or another value does not fit.
        """
        given = {name: value for name, value in vars(self).items() if value is not None}
        # A recording without pictures names none; then everything is rendered.
        changed = replace(spec, **{"modalities": spec.modalities or MODALITIES, **given})
        if not changed.renders:
            raise BadValue("Nothing is to be rendered: name cameras with --cameras, and at least one of --modalities.")
        changed.check()
        return changed


def check_request(reader: Any, request: RenderRequest, out: Path) -> CollectSpec:
    """Check everything that can be checked before a simulator is built, and return the spec of the new file.

    Raises:
        DataError: If the recording is not ours, has no states, or `out` cannot be used.
        FlowBenchError: If a camera or value does not fit the suite.
    """
    if not isinstance(reader, FlowBenchHdf5):
        raise DataError(
            f"{reader.path} is {reader.format}; only files of flowbench collect hold all that rendering needs."
        )
    if not reader.demos:
        raise DataError(f"{reader.path} holds no demonstrations.")
    without = [info.name for info in reader.demos if "states" not in info.arrays]
    if without:
        raise DataError(f"{reader.path}: {without[0]} has no states, so it cannot be rendered again.")
    if out.is_dir():
        raise DataError(f"--out {out} is a folder; give the name of a file.")
    if out.exists():
        same = " It is the file that is read." if out.samefile(reader.path) else ""
        raise DataError(f"--out {out} exists.{same} Choose another name, or delete it.")
    try:
        spec = CollectSpec.from_json(reader.attributes.get("spec") or {})
    except StoreError as error:
        raise DataError(f"{reader.path} does not say how it was collected ({error}).") from error
    return request.applied_to(spec)


def render_file(
    reader: FlowBenchHdf5, request: RenderRequest, out: Path, *, command: str = "", workers: int = 1
) -> Iterator[str]:
    """Render every demonstration into a new file, yielding each name as it is done.

    The file appears when it is complete.

    Args:
        reader: A file of ours with states.
        request: What to render.
        out: The new file.
        command: The command line, for the file's provenance.
        workers: Number of processes, one simulator each.

    Raises:
        FlowBenchError: As `check_request`; or if a state does not fit the simulator, or the disk is full.
        RunFailed: If a worker process dies.
    """
    spec = check_request(reader, request, out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise DataError(f"--out {out} cannot be written: {error.strerror}.") from error
    try:
        make = partial(_PartRenderer, reader.path, spec, folder)
        for demo, answer in map_demos(make, reader, range(len(reader.demos)), workers):
            if isinstance(answer, Crash):
                raise RunFailed(f"The process that rendered {reader.demos[demo].name} {answer.how}.")
            yield reader.demos[demo].name
        parts = [_part(folder, demo) for demo in range(len(reader.demos))]
        provenance = {"command": command, "rendered_from": reader.path.name, "collected": _provenance(reader)}
        merge(out, parts, spec, get_suite(spec.suite), provenance, _AFTER_FAILURE)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _provenance(reader: FlowBenchHdf5) -> Mapping[str, Any]:
    return reader.attributes.get("provenance") or {}


def _part(folder: Path, demo: int) -> Path:
    return folder / f"{demo}.h5"


class _PartRenderer:
    """Renders demonstrations in a worker process, each into a file of its own."""

    def __init__(self, path: Path, spec: CollectSpec, folder: Path) -> None:
        self._reader = open_demos(path, FlowBenchHdf5.format)
        self._spec = spec
        self._folder = folder
        self._suite = get_suite(spec.suite)
        self._env: TaskEnv | None = None

    def __call__(self, demo: int) -> bool:
        info = self._reader.demos[demo]
        source = self._reader.group(demo)
        env = self._env_of(info.task)
        observations = observe_states(env, StateRows.read(source), scenario_of(info))
        names = dict(env.simulator.segmentation_names()) if "segmentation" in self._spec.modalities else {}

        def fill(file: h5py.File, check: Check) -> None:
            group = file.create_group(PART_GROUP)
            _copy_numbers(source, group)
            write_images(group, info.steps, observations, names, self._spec, self._suite, check)
            group.attrs["checksum"] = checksum(group)

        write_file(_part(self._folder, demo), fill, _AFTER_FAILURE)
        return True

    def close(self) -> None:
        if self._env is not None:
            self._env.close()
            self._env = None
        self._reader.close()

    def _env_of(self, task_name: str) -> TaskEnv:
        """Return the environment of a task; a process never holds two."""
        if self._env is None or self._env.task.name != task_name:
            if self._env is not None:
                self._env.close()
            spec = self._spec
            config = EnvConfig(spec.cameras, spec.modalities, spec.image_size, profile=spec.profile)
            self._env = rendering_env(self._suite, self._suite.task(task_name), spec.rules, config)
        return self._env


def _copy_numbers(source: h5py.Group, target: h5py.Group) -> None:
    """Copy attributes and arrays, except what a camera saw; nothing is decoded."""
    for name in source:
        if name != OBS:
            source.copy(name, target)
    obs = target.create_group(OBS)
    for path, data_set in _numbers(data_sets(source[OBS])):
        source[OBS].copy(data_set, obs, path)
    target.attrs.update(dict(source.attrs))


def _numbers(found: Iterable[tuple[str, h5py.Dataset]]) -> Iterator[tuple[str, h5py.Dataset]]:
    return ((path, data_set) for path, data_set in found if "/" not in observation_key(path))
