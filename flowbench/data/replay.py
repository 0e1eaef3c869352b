"""Stored actions executed again: do they still reach what was stored, through the same states, and look the same?

That is the proof that a recording and the installed simulator belong together; a demonstration that does not replay teaches
a policy something that is no longer true.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np

from flowbench.data.demonstration import DemoInfo, DemoReader
from flowbench.data.info import known_task
from flowbench.data.readers import open_hdf5
from flowbench.data.readers.flowbench_hdf5 import FlowBenchHdf5
from flowbench.data.rendering import observe_states, rendering_env
from flowbench.data.states import Place, StateRows
from flowbench.env import EnvConfig, EnvState, TaskEnv
from flowbench.errors import DataError, RenderingUnavailable
from flowbench.registry import get_suite
from flowbench.simulator import SimulatorState
from flowbench.task import Scenario

_IMAGES = ("rgb", "depth", "segmentation")


class StateDifference(NamedTuple):
    """Where a replay leaves the stored states.

    Attributes:
        step: First step that differs.
        largest: Largest absolute difference of a physics number over the whole episode.
        where: What differs first: `physics`, or the path of a number beside it.
    """

    step: int
    largest: float
    where: str

    def __str__(self) -> str:
        return f"states differ from step {self.step} on, first in {self.where} (at most {self.largest:.3g} in physics)"


class Replay(NamedTuple):
    """What came of one replay.

    Attributes:
        success: Whether the replayed actions reached the goal.
        states: `equal`, `differ`, or `none` where no states are stored.
        difference: How they differ, if they do.
        exact: Whether the format promises that states are equal: our own files, which store everything that the future
            depends on. Others hold a part of it, and come from other versions of the simulator.
        pictures: What comparing one stored moment with a picture made again found; empty if nothing differs.
        pictures_compared: How many stored images were made again.
    """

    success: bool
    states: str
    difference: StateDifference | None
    exact: bool
    pictures: tuple[str, ...] = ()
    pictures_compared: int = 0


def why_not_replayable(info: DemoInfo) -> str | None:
    """Return why a demonstration cannot be replayed here, in words; None if it can."""
    if "actions" not in info.arrays:
        return "no actions"
    if info.suite is None or info.task is None:
        return "the file does not say which suite and task it is of"
    task = known_task(info)
    if task is None:
        return f"there is no task {info.suite}/{info.task} here"
    missing = get_suite(info.suite).missing_modules()
    if missing:
        return f"the simulator is not installed (pip install 'flowbench[{get_suite(info.suite).extra}]')"
    if info.scenario is None and "states" not in info.arrays:
        return "the file has neither a scenario nor states to start from"
    return None


class Replayer:
    """Replays demonstrations of one recording, keeping the simulator of the last one's task."""

    def __init__(self, reader: DemoReader, *, pictures: bool = True) -> None:
        """Prepare; no simulator is built yet.

        Args:
            reader: The recording.
            pictures: Whether to make one stored moment's pictures again.
        """
        self.reader = reader
        self.pictures = pictures
        self._env: TaskEnv | None = None
        self._env_key: tuple[Any, ...] = ()

    def replay(self, demo: int) -> Replay:
        """Execute a demonstration's actions again.

        Raises:
            DataError: If what is needed for it is missing or damaged.
            FlowBenchError: If the simulator refuses the scenario or an action.
        """
        info = self.reader.demos[demo]
        ours = isinstance(self.reader, FlowBenchHdf5)
        env = self._env_of(demo)
        self._start(env, demo)
        states = [env.get_state().simulator]
        finish = bool(_spec(self.reader).get("finish"))
        succeeded = False
        for action in self.reader.read(demo, "actions", slice(None)):
            _, _, _, _, step_info = env.step(action)
            # As collecting decides it: a finished episode must still be solved at its end.
            succeeded = bool(step_info["is_success"] and (step_info["success_now"] or not finish))
            states.append(env.get_state().simulator)
        difference = None
        if "states" in info.arrays:
            stored = StateRows.read(self.reader.group(demo)) if ours else self._stored_states(demo)
            difference = _first_difference(stored, StateRows.pack(states[:-1]))
        if ours and difference is None and "final_state" in (group := self.reader.group(demo)):
            difference = _final_difference(group["final_state"][()], states[-1].physics, info.steps)
        found = ("differ" if difference else "equal") if "states" in info.arrays else "none"
        pictures, compared = self._compare_pictures(env, demo) if ours and self.pictures else ((), 0)
        return Replay(succeeded, found, difference, ours, pictures, compared)

    def close(self) -> None:
        """Free the simulator."""
        if self._env is not None:
            self._env.close()
            self._env = None

    def _env_of(self, demo: int) -> TaskEnv:
        """Return the environment of a demonstration's task; a process never holds two."""
        info = self.reader.demos[demo]
        suite = get_suite(info.suite)
        protocol = self.reader.demo_attributes(demo).get("protocol") if isinstance(self.reader, FlowBenchHdf5) else None
        config = self._config(info)
        key = (info.suite, info.task, protocol, config)
        if key != self._env_key or self._env is None:
            self.close()
            rules = suite.rules(protocol)
            max_steps = _spec(self.reader).get("max_steps")
            rules = replace(rules, horizon=max_steps) if max_steps else rules
            self._env = rendering_env(suite, suite.task(info.task), rules, config)
            self._env_key = key
        return self._env

    def _config(self, info: DemoInfo) -> EnvConfig:
        """Look as the recording did: through its cameras, at its size."""
        sizes = {
            (spec.shape[1], spec.shape[0])
            for key, spec in info.arrays.items()
            if key.rpartition("/")[2] in _IMAGES and "/" in key
        }
        profile = _spec(self.reader).get("profile", "full")
        if len(sizes) != 1 or not isinstance(self.reader, FlowBenchHdf5):
            return EnvConfig(cameras=(), modalities=(), profile=profile)
        items = {key.rpartition("/")[2] for key in info.arrays if "/" in key}
        modalities = tuple(item for item in _IMAGES if item in items)
        return EnvConfig(info.cameras, modalities, sizes.pop(), profile=profile)

    def _start(self, env: TaskEnv, demo: int) -> None:
        """Go to where the recording started: by its scenario, else by the first of its states."""
        info = self.reader.demos[demo]
        if isinstance(self.reader, FlowBenchHdf5):
            options: dict[str, Any] = {"scenario": scenario_of(info)}
            group = self.reader.group(demo)
            if "prefix_actions" in group:
                options["prefix_actions"] = group["prefix_actions"][()]
            env.reset(options=options)
            return
        env.reset(seed=0)
        now = env.get_state()
        first = self.reader.read(demo, "states", slice(0, 1))[0]
        physics = now.simulator.physics.copy()
        if len(first) > len(physics):
            raise DataError(
                f"{info.name} has states of {len(first)} numbers and the simulator of {info.suite}/{info.task} needs "
                f"{len(physics)}: they come from another version of it."
            )
        # MuJoCo's vector starts with what others store: time, positions, velocities.
        physics[: len(first)] = first
        extras = _with_fixtures(now.simulator.extras, env.simulator, self._scene_xml(demo))
        env.set_state(EnvState(SimulatorState(physics, extras), now.tracker, now.scenario))

    def _scene_xml(self, demo: int) -> str:
        """Return the scene that LIBERO's and robomimic's files store with each demonstration; empty if there is none."""
        if self.reader.format != "libero-hdf5":
            return ""
        with open_hdf5(self.reader.path) as file:
            text = file["data"][self.reader.demos[demo].name].attrs.get("model_file", "")
        return text.decode() if isinstance(text, bytes) else str(text)

    def _stored_states(self, demo: int) -> StateRows:
        return StateRows(self.reader.read(demo, "states", slice(None)))

    def _compare_pictures(self, env: TaskEnv, demo: int) -> tuple[tuple[str, ...], int]:
        """Restore the middle state, look at it again, and compare."""
        info = self.reader.demos[demo]
        if not env.config.modalities or "states" not in info.arrays:
            return (), 0
        step = info.steps // 2
        stored = StateRows.read(self.reader.group(demo))
        found, compared = [], 0
        try:
            for observation in observe_states(env, stored, scenario_of(info), [step]):
                for key in info.arrays:
                    if "/" not in key or key.rpartition("/")[2] not in env.config.modalities:
                        continue
                    before = self.reader.read(demo, key, slice(step, step + 1))[0]
                    compared += 1
                    difference = _picture_difference(key, before, observation[key], self.reader, demo)
                    if difference:
                        found.append(f"{difference} at step {step}")
        except RenderingUnavailable as error:
            return (f"pictures could not be made again: {error}",), compared
        return tuple(found), compared


def scenario_of(info: DemoInfo) -> Scenario:
    """Return the scenario that a demonstration started from, from its key.

    Raises:
        DataError: If the key has another form.
    """
    match = re.fullmatch(r"(?:i(?P<init_state>\d+)-)?s(?P<seed>\d+)", info.scenario or "")
    if match is None:
        raise DataError(f"{info.name} has the scenario {info.scenario!r}; expected a key such as s003 or i007-s000.")
    init_state = match["init_state"]
    return Scenario(int(match["seed"]), None if init_state is None else int(init_state))


def _with_fixtures(extras: Mapping[str, Any], simulator: Any, scene_xml: str) -> Mapping[str, Any]:
    """Return a state's extras with fixtures where a stored scene has them.

    LIBERO places cabinets and stoves anew at every reset, as part of the model, so the states do not say where they stood.

    Args:
        extras: Extras of a state of a MuJoCo simulator; those of other simulators are returned as they are.
        simulator: The simulator, for the numbers of its bodies.
        scene_xml: The scene as MuJoCo saved it; may be empty.
    """
    arrays = extras.get("model")
    if not scene_xml or not isinstance(arrays, Mapping) or not {"body_pos", "body_quat"} <= arrays.keys():
        return extras
    try:
        scene = ElementTree.fromstring(scene_xml).find("worldbody")
    except ElementTree.ParseError:
        return extras
    placed = {name: array.copy() for name, array in arrays.items()}
    for body in [] if scene is None else scene.findall("body"):
        # What has a joint of its own stands where the state says.
        if body.find("joint") is not None or body.find("freejoint") is not None:
            continue
        try:
            index = simulator.model.body(body.get("name", "")).id
        except KeyError:
            continue
        placed["body_pos"][index] = [float(number) for number in body.get("pos", "0 0 0").split()]
        placed["body_quat"][index] = [float(number) for number in body.get("quat", "1 0 0 0").split()]
    return {**extras, "model": placed}


def _spec(reader: DemoReader) -> dict[str, Any]:
    """Return what was collected and how, as a file of ours says; empty for others."""
    spec = reader.attributes.get("spec") if isinstance(reader, FlowBenchHdf5) else None
    return spec if isinstance(spec, dict) else {}


def _first_difference(stored: StateRows, replayed: StateRows) -> StateDifference | None:
    """Compare bit for bit what both have; a format that stores fewer numbers is compared in those."""
    width = min(stored.physics.shape[1], replayed.physics.shape[1])
    before, after = stored.physics[:, :width], replayed.physics[:, :width]
    candidates = []
    if len(before) != len(after):
        candidates.append((min(len(before), len(after)), "their number"))
        before, after = before[: len(after)], after[: len(before)]
    unequal = (before != after) & ~(np.isnan(before) & np.isnan(after))
    if unequal.any():
        candidates.append((int(np.argmax(unequal.any(axis=1))), "physics"))
    for path in dict.fromkeys((*stored.places, *replayed.places)) if stored.places else ():
        step = _place_difference(stored.places.get(path), replayed.places.get(path), len(before))
        if step is not None:
            candidates.append((step, path))
    if not candidates:
        return None
    step, where = min(candidates, key=lambda candidate: candidate[0])
    apart = np.abs(before - after)
    return StateDifference(step, float(np.nanmax(apart)) if apart.size else 0.0, where)


def _place_difference(stored: Place | None, replayed: Place | None, steps: int) -> int | None:
    """Return the first step at which a place held something else."""
    if stored is None or replayed is None:
        return 0
    shape = (steps, *stored.values.shape[1:])
    if stored.values.shape[1:] != replayed.values.shape[1:]:
        return 0
    before, after = np.broadcast_to(stored.values, shape), np.broadcast_to(replayed.values, shape)
    unequal = (before != after) & ~((before != before) & (after != after))
    unequal_rows = unequal.reshape(steps, -1).any(axis=1)
    kinds = [step for step in range(steps) if stored.runs.at(step) != replayed.runs.at(step)]
    first = [int(np.argmax(unequal_rows))] if unequal_rows.any() else []
    return min((*kinds[:1], *first), default=None)


def _final_difference(stored: np.ndarray, replayed: np.ndarray, steps: int) -> StateDifference | None:
    if np.array_equal(stored, replayed, equal_nan=True):
        return None
    largest = float(np.nanmax(np.abs(stored - replayed))) if stored.shape == replayed.shape else float("nan")
    return StateDifference(steps, largest, "the final state")


def _picture_difference(key: str, before: np.ndarray, after: np.ndarray, reader: Any, demo: int) -> str | None:
    """Say how two images of one moment differ; None if they are equal as far as the file's precision goes."""
    if before.shape != after.shape:
        return f"{key} is {after.shape} when made again, stored {before.shape}"
    if key.endswith("/depth"):
        apart = np.abs(before - after)
        # What rounding to the stored unit takes away.
        allowed = _depth_rounding_m(reader, demo, key, before)
        wrong = apart > allowed
        unit = f"by up to {apart.max():.3g} m"
    else:
        apart = np.abs(before.astype(np.int64) - after)
        wrong = (apart.max(axis=-1) if apart.ndim == 3 else apart) > 0
        unit = f"by up to {apart.max()}" if key.endswith("/rgb") else "by id"
    return f"{key} differs in {wrong.mean():.2%} of pixels {unit}" if wrong.any() else None


def _depth_rounding_m(reader: FlowBenchHdf5, demo: int, key: str, depth_m: np.ndarray) -> np.ndarray | float:
    stored = reader.stored(demo, key)
    if stored.dtype == np.float16:
        return np.maximum(depth_m * 2.0**-11, 1e-7)
    if stored.dtype.kind == "u":
        # Half a unit, and what float32 makes of it.
        return 0.5001 * float(stored.attrs.get("unit_m", 1.0)) + depth_m * 1e-6
    return 0.0
