"""Demonstrations to HDF5: one at a time as they are rendered, then many into one file without decoding any.

A file appears under its name only when it is whole and on the disk. The layout stands in `flowbench.data.layout`.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from flowbench import __version__
from flowbench.data.collect_spec import CollectSpec
from flowbench.data.layout import (
    DATA,
    DEPTH_FORMATS,
    FORMAT_VERSION,
    MASK,
    OBS,
    checksum,
    dataset_name,
    encode_depth,
    smallest_unsigned,
)
from flowbench.data.trajectory import Trajectory
from flowbench.errors import DataError
from flowbench.observation import Observation
from flowbench.suite import Suite
from flowbench.task import Task

Check = Callable[[], None]

#: Name of the demonstration's group in a file of its own.
PART_GROUP = "demo"
#: Of a file that is being written.
WRITING_SUFFIX = ".writing"
#: robomimic's number for environments with Gymnasium's interface (robomimic/envs/env_base.py, EnvType.GYM_TYPE).
_ROBOMIMIC_GYM_TYPE = 2


def write_demonstration(
    group: h5py.Group,
    trajectory: Trajectory,
    observations: Iterable[Observation],
    names: Mapping[int, str],
    spec: CollectSpec,
    suite: Suite,
    check: Check,
) -> None:
    """Write one demonstration; its images are read, compressed and written step by step.

    Args:
        group: An empty group.
        trajectory: What was recorded.
        observations: One observation per step with the cameras and modalities to store; may be empty.
        names: Name of every segmentation id.
        spec: What is stored, and how.
        suite: The suite, for the names that its loaders look for.
        check: Called after every step; what it raises ends the writing.
    """
    obs = group.create_group(OBS)
    if not spec.action_free:
        _write_numbers(group, obs, trajectory, spec, suite)
    write_images(group, len(trajectory), observations, names, spec, suite, check)
    episode, task = trajectory.episode, suite.task(trajectory.episode.task)
    group.attrs.update(
        num_samples=len(trajectory),
        suite=episode.suite,
        protocol=spec.protocol,
        task=task.name,
        instruction=task.instruction,
        scenario=episode.scenario.key,
        seed=episode.scenario.seed,
        episode_id=episode.id,
        agent=spec.agent.name,
        success=trajectory.success,
    )
    if episode.scenario.init_state is not None:
        group.attrs["init_state"] = episode.scenario.init_state
    group.attrs["checksum"] = checksum(group)


def write_file(path: Path, fill: Callable[[h5py.File, Check], None], after_failure: str) -> None:
    """Let `fill` write an HDF5 file, then put it in place in one step.

    Args:
        path: Where it goes; an existing file is replaced.
        fill: Gets the open file, and a function that raises once the disk is full; it should call that now and then.
        after_failure: A sentence that says what is kept and what to do.

    Raises:
        DataError: If it cannot be written; nothing is left under its name or the temporary one.
    """
    temporary = path.with_name(path.name + WRITING_SUFFIX)
    try:
        with _Disk(temporary) as disk:
            try:
                with h5py.File(disk, "w") as file:
                    fill(file, disk.check)
            finally:
                # What HDF5 makes of bytes that never arrived is not the error.
                disk.check()
            os.fsync(disk.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise DataError(f"{path} could not be written: {error.strerror or error}. {after_failure}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


class _Disk(io.FileIO):
    """A file that HDF5 writes to, which remembers the first failure instead of reporting it.

    Told of a full disk, HDF5 prints a traceback for every object that it then cannot close.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self._error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all of the bytes, or remember why not."""
        left = memoryview(data)
        try:
            while left and self._error is None:
                left = left[super().write(left) :]
        except OSError as error:
            self._error = error
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        """Change the length."""
        return super().truncate(size) if self._error is None else 0

    def check(self) -> None:
        """Raise the first failure, if there was one.

        Raises:
            OSError: What the operating system said.
        """
        if self._error is not None:
            raise self._error


def merge(
    path: Path, parts: list[Path], spec: CollectSpec, suite: Suite, provenance: Mapping[str, Any], after_failure: str
) -> int:
    """Copy the demonstrations of many files into one, in order, without decoding them.

    Args:
        path: The file to make.
        parts: Files with one demonstration each.
        spec: What was collected.
        suite: The suite.
        provenance: Command, versions and commit.
        after_failure: As `write_file` takes it.

    Returns:
        The number of steps of all demonstrations.

    Raises:
        DataError: If it cannot be written.
    """
    total = 0

    def fill(file: h5py.File, check: Check) -> None:
        nonlocal total
        data = file.create_group(DATA)
        by_task: dict[str, list[str]] = {}
        for index, part in enumerate(parts):
            name = f"demo_{index}"
            with h5py.File(part, "r") as source:
                source.copy(PART_GROUP, data, name)
            check()
            total += int(data[name].attrs["num_samples"])
            by_task.setdefault(data[name].attrs["task"], []).append(name)
        for task, names in by_task.items():
            file.create_dataset(f"{MASK}/{task}", data=np.array(names, dtype="S"))
        data.attrs.update(_file_attributes(spec, suite, [suite.task(task) for task in by_task], provenance))
        data.attrs["total"] = total
        data.attrs["num_demos"] = len(parts)

    write_file(path, fill, after_failure)
    return total


def _write_numbers(group: h5py.Group, obs: h5py.Group, trajectory: Trajectory, spec: CollectSpec, suite: Suite) -> None:
    group["actions"] = trajectory.actions
    if spec.action_noise:
        group["expert_actions"] = trajectory.asked_actions
    if spec.start_noise:
        group["prefix_actions"] = trajectory.prefix_actions
    group["rewards"] = trajectory.rewards
    dones = np.zeros(len(trajectory), np.uint8)
    dones[-1] = 1
    group["dones"] = dones
    trajectory.states.write(group, spec.compression)
    group["final_state"] = trajectory.final_state
    obs["proprio"] = trajectory.proprio
    sources = {"proprio": trajectory.proprio, "states": trajectory.states.physics}
    for name, field in suite.recorded_fields.items():
        obs[name] = sources[field.source][:, field.start : field.stop].astype(np.float64)


def write_images(
    group: h5py.Group,
    steps: int,
    observations: Iterable[Observation],
    names: Mapping[int, str],
    spec: CollectSpec,
    suite: Suite,
    check: Check,
) -> None:
    """Write what cameras see, step by step, into a demonstration whose group `obs` exists.

    Args:
        group: The demonstration's group.
        steps: Number of steps.
        observations: One observation per step with the cameras and modalities to store; may be empty.
        names: Name of every segmentation id.
        spec: How images are stored.
        suite: The suite, for the names that its loaders look for.
        check: Called after every step; what it raises ends the writing.
    """
    obs = group[OBS]
    group.attrs["segmentation_names"] = json.dumps({str(index): name for index, name in names.items()})
    id_type = smallest_unsigned(max(names, default=0))
    calibration: dict[str, list[np.ndarray]] = {}
    for step, observation in enumerate(observations):
        for key in observation:
            camera, _, item = key.rpartition("/")
            if not camera:
                continue
            array = observation[key]
            if item in ("intrinsic_cv", "extrinsic_cv"):
                calibration.setdefault(key, []).append(array)
                continue
            if item == "depth":
                array = encode_depth(array, spec.depth_format)
            elif item == "segmentation":
                array = array.astype(id_type)
            name = dataset_name(key)
            if name not in obs:
                _create_images(obs, name, array, steps, spec)
            obs[name][step] = array
        check()
    for key, rows in calibration.items():
        # Fixed cameras repeat themselves: compressed, they take nothing.
        obs.create_dataset(
            dataset_name(key),
            data=np.array(rows, dtype=np.float32),
            chunks=(len(rows), *rows[0].shape),
            compression="gzip",
            shuffle=True,
        )
    check()
    for view, alias in suite.view_aliases.items():
        if dataset_name(f"{view}/rgb") in obs:
            obs[dataset_name(f"{alias}/rgb")] = h5py.SoftLink(dataset_name(f"{view}/rgb"))


def _create_images(obs: h5py.Group, name: str, image: np.ndarray, steps: int, spec: CollectSpec) -> None:
    data_set = obs.create_dataset(
        name,
        (steps, *image.shape),
        image.dtype,
        chunks=(1, *image.shape),
        compression="gzip",
        compression_opts=spec.compression,
        shuffle=image.dtype.itemsize > 1,
    )
    if name.endswith("_depth"):
        data_set.attrs["unit_m"] = DEPTH_FORMATS[spec.depth_format][1]


def _file_attributes(
    spec: CollectSpec, suite: Suite, tasks: list[Task], provenance: Mapping[str, Any]
) -> dict[str, Any]:
    environment = {
        "type": _ROBOMIMIC_GYM_TYPE,
        "env_name": f"flowbench/{suite.name}",
        "env_kwargs": {"suite": suite.name, "tasks": [task.name for task in tasks], "protocol": spec.protocol},
    }
    attributes = {
        "env_args": json.dumps(environment),
        "flowbench_format": FORMAT_VERSION,
        "flowbench_version": __version__,
        "spec": json.dumps(spec.to_json()),
        "provenance": json.dumps(provenance),
        "cameras": json.dumps(spec.cameras if spec.renders else ()),
        "image_convention": "upright",
    }
    if len(tasks) == 1:
        problem = {"language_instruction": tasks[0].instruction, "problem_name": tasks[0].name}
        attributes["problem_info"] = json.dumps(problem)
    return attributes


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # Not every file system lets folders be opened.
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
