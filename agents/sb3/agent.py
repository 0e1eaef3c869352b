"""The agent that asks a Stable-Baselines3 policy: any algorithm of it or of sb3-contrib, on any suite."""

from __future__ import annotations

import importlib
import multiprocessing
import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from flowbench.agent import Needs
from flowbench.agents.sb3.inputs import PolicyInputs
from flowbench.agents.sb3.saved import SavedPolicy, read_saved
from flowbench.camera import CameraParams
from flowbench.errors import BadValue, DataError, MissingExtra, missing_extra, unknown_name
from flowbench.observation import Observation
from flowbench.task import ActionSpec, Task

ALGORITHMS = {
    "stable_baselines3": ("PPO", "SAC", "TD3", "A2C", "DQN", "DDPG"),
    "sb3_contrib": ("RecurrentPPO", "TQC", "TRPO", "QRDQN", "ARS", "CrossQ", "MaskablePPO"),
}
#: Needed for training only: nothing is learned here, schedules may not survive a change of Python's version, and a replay
#: buffer of images would take the whole memory.
_NOT_NEEDED = {
    "learning_rate": 0.0,
    "lr_schedule": lambda _: 0.0,
    "clip_range": lambda _: 0.0,
    "clip_range_vf": None,
    "exploration_schedule": lambda _: 0.0,
    "buffer_size": 1,
    "_last_obs": None,
    "_last_original_obs": None,
    "ep_info_buffer": None,
    "ep_success_buffer": None,
    "action_noise": None,
}


class SB3Agent:
    """A policy from the zip of `model.save`.

    Non-obvious behaviours:
        - A policy without cameras in its observation space sees `proprio` only and is the same from every camera.
        - With one camera in its space it sees the episode's, if that is a pose of the same view.
        - The camera, keys, shapes, action width and bounds are compared before the first action.
        - The zip and a `vec_normalize` file are pickles: loading one runs whatever its author put there.
    """

    def __init__(
        self,
        checkpoint: str,
        algo: str,
        deterministic: bool = True,
        vec_normalize: str | None = None,
        device: str = "cpu",
    ) -> None:
        """Load the policy.

        Args:
            checkpoint: The zip.
            algo: Class it was trained with, e.g. `PPO`.
            deterministic: The policy's mean or best action; else it is sampled, from the episode's seed.
            vec_normalize: File of `VecNormalize.save`, for a policy that was trained inside one.
            device: As torch names it.

        Raises:
            DataError: If a file is missing, damaged, or of another algorithm.
            UnknownName: If there is no such algorithm, or an observation key is not one of FlowBench's.
            MissingExtra: If Stable-Baselines3 is not installed.
        """
        saved = read_saved(checkpoint)
        algorithm = _algorithm(algo)
        inputs = PolicyInputs.of(saved.observation_space) if saved.observation_space is not None else None
        if multiprocessing.parent_process() is None:  # once per evaluation, not in each of its workers
            files = f"{checkpoint} is a pickle, as all zips of Stable-Baselines3"
            if vec_normalize:
                files = f"{checkpoint} and {vec_normalize} are pickles, as all files of Stable-Baselines3"
            warnings.warn(
                f"{files}: loading runs code that the author chose. Evaluate only files that you trust.", stacklevel=2
            )
        model = _load(algorithm, saved, device)
        self._policy, self._action_space = model.policy, model.action_space
        self._inputs = inputs or PolicyInputs.of(model.observation_space)
        self._deterministic, self._device = deterministic, device
        self._normalize = _load_normalize(vec_normalize, model.observation_space) if vec_normalize else None
        self.needs: Needs = self._inputs.needs()

    def reset(self, task: Task, cameras: Mapping[str, CameraParams], seed: int) -> None:
        """Compare actions and camera with the policy's, and forget the last episode.

        Raises:
            BadValue: With what the policy was trained for and what is asked.
        """
        self._decode = _decoder(self._action_space, task.action_spec, task.suite)
        if cameras:
            self._inputs.check_camera(next(iter(cameras)))
        self._memory: Any = None
        self._first = True
        self._seed, self._calls = seed, 0

    def act(self, observation: Observation) -> np.ndarray:
        """Return one (A,) action."""
        seen = self._inputs.gather(observation)
        if self._normalize is not None:
            seen = self._normalize.normalize_obs(seen)
        with self._own_randomness():
            action, self._memory = self._policy.predict(
                seen, state=self._memory, episode_start=np.array([self._first]), deterministic=self._deterministic
            )
        self._first = False
        self._calls += 1
        return self._decode(action)

    @contextmanager
    def _own_randomness(self) -> Iterator[None]:
        """Draw from the episode's seed, and leave torch's global generator as it was."""
        if self._deterministic:
            yield
            return
        import torch

        devices = [self._device] if torch.device(self._device).type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(np.random.SeedSequence([self._seed, self._calls]).generate_state(1)[0])
            yield


def _algorithm(name: str) -> type:
    packages = {algorithm.lower(): (package, algorithm) for package, all_ in ALGORITHMS.items() for algorithm in all_}
    if name.lower() not in packages:
        known = [algorithm for _, algorithm in packages.values()]
        raise unknown_name("algorithm", name, known, "Agent sb3", "Give it with --agent-args algo=NAME.")
    package, algorithm = packages[name.lower()]
    try:
        return getattr(importlib.import_module(package), algorithm)
    except ModuleNotFoundError as error:
        if package == "sb3_contrib":
            raise MissingExtra(
                f"Algorithm {algorithm} is part of sb3-contrib. Install it: pip install sb3-contrib"
            ) from error
        raise missing_extra("Agent sb3", "sb3", error) from error


def _load(algorithm: type, saved: SavedPolicy, device: str) -> Any:
    try:
        return algorithm.load(saved.path, device=device, custom_objects=_NOT_NEEDED)
    except Exception as error:  # a zip of another algorithm fails anywhere
        origin = f" Its policy comes from {saved.policy_module}." if saved.policy_module else ""
        raise DataError(
            f"{saved.path} could not be loaded as {algorithm.__name__} ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}).{origin} Name the algorithm it was trained with: --agent-args algo=NAME."
        ) from error


def _load_normalize(path: str, space: spaces.Space) -> Any:
    if not Path(path).is_file():
        raise DataError(f"There is no vec_normalize file at {path!r}. It is what VecNormalize.save(...) wrote.")
    try:
        with Path(path).open("rb") as file:
            found = pickle.load(file)
        normalised = found.observation_space
        found.training = False
    except Exception as error:
        raise DataError(f"{path} is no file of VecNormalize.save(...) ({type(error).__name__}: {error}).") from error
    if normalised != space:
        raise BadValue(f"{path} normalises {normalised}, and the policy takes {space}. Use the file saved beside it.")
    return found


def _decoder(space: spaces.Space, spec: ActionSpec, suite: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return what turns the policy's action into the suite's.

    Raises:
        BadValue: If it cannot be one.
    """
    takes = f"suite {suite} takes {spec.size} components ({', '.join(spec.labels)})"
    if spec.choices:
        takes = f"suite {suite} takes one of {len(spec.choices)} ({', '.join(spec.choices)})"
    if spec.choices and isinstance(space, spaces.Discrete) and space.n == len(spec.choices):
        return lambda action: np.array([float(action) - float(space.start)])
    if spec.choices or isinstance(space, spaces.Discrete):
        raise BadValue(f"The policy's action is {space}, and {takes}. Train it on an environment of {suite}.")
    if not isinstance(space, spaces.Box) or space.shape != (spec.size,):
        raise BadValue(f"The policy's action is {space}, and {takes}. Train it on an environment of {suite}.")
    low, high = np.asarray(spec.low), np.asarray(spec.high)
    if not (np.allclose(space.low, low) and np.allclose(space.high, high)):
        raise BadValue(
            f"The policy's actions lie in [{space.low.tolist()}, {space.high.tolist()}], and suite {suite} takes "
            f"[{low.tolist()}, {high.tolist()}]. Train it on an environment of {suite}, without rescaled actions."
        )
    return lambda action: np.clip(np.asarray(action, dtype=np.float64), low, high)
