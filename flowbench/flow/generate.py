"""Making a set of pairs from simulators: many scenes, several processes, resumable at any moment."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tqdm import tqdm

from flowbench.atomic import write_text_atomically
from flowbench.data.pool import Crash, map_demos
from flowbench.env import EnvConfig, TaskEnv
from flowbench.errors import DataError
from flowbench.flow.pairs import write_pairs
from flowbench.flow.sampling import SamplingSpec, sample_scene
from flowbench.registry import get_suite, make_agent
from flowbench.seeding import derive_rng

#: Scenes of pair sets have seeds from here on: evaluations count from 0, demonstrations from 10,000.
FIRST_SEED = 50_000
SPEC = "spec.json"


@dataclass(frozen=True)
class SceneSpec:
    """One scene to make pairs from.

    Attributes:
        suite: Name of the suite.
        task: Name of the task.
        seed: Scenario seed.
        views: Cameras to choose from.
        profile: Render profile.
    """

    suite: str
    task: str
    seed: int
    views: tuple[str, ...]
    profile: str

    @property
    def path(self) -> str:
        """Its file within the set."""
        return f"{self.suite}/{self.task}/s{self.seed}.h5"


@dataclass(frozen=True)
class PairSetSpec:
    """What a set of pairs is made from.

    Attributes:
        suites: Names of suites.
        tasks: Tasks by suite; a suite without an entry takes all of its tasks.
        views: Cameras by suite; a suite without an entry takes all of its views.
        scenes_per_task: Number of seeds of each task.
        first_seed: The first of them.
        sampling: What is drawn from a scene.
    """

    suites: tuple[str, ...]
    tasks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    views: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    scenes_per_task: int = 4
    first_seed: int = FIRST_SEED
    sampling: SamplingSpec = field(default_factory=SamplingSpec)

    def scenes(self) -> list[SceneSpec]:
        """Return every scene, all tasks once before any a second time.

        Raises:
            UnknownName: If a suite, task or camera does not exist.
        """
        scenes = []
        for seed in range(self.first_seed, self.first_seed + self.scenes_per_task):
            for name in self.suites:
                suite = get_suite(name)
                views = self.views.get(name) or suite.views
                for view in views:
                    suite.check_view(view)
                for task in self.tasks.get(name) or [task.name for task in suite.tasks]:
                    suite.task(task)
                    is_full = derive_rng(f"{name}/{task}/s{seed}", "profile").random() < self.sampling.full_profile
                    scenes.append(SceneSpec(name, task, seed, tuple(views), "full" if is_full else "fast"))
        return scenes


def generate_pairs(spec: PairSetSpec, out: Path, *, workers: int = 1, progress: bool = True) -> list[str]:
    """Make a set of pairs, or the part of it that is not there yet.

    Scripts that call this must guard it with `if __name__ == "__main__":`, because worker processes import the script.

    Args:
        spec: What to make.
        out: Folder of the set.
        workers: Number of processes; 0 runs in this one.
        progress: Whether to show a progress bar.

    Returns:
        What went wrong, one sentence per scene that could not be made.

    Raises:
        DataError: If the folder holds a set of another kind.
        FlowBenchError: If a suite is not installed or cannot be rendered.
    """
    out = Path(out)
    scenes = spec.scenes()
    for name in spec.suites:
        get_suite(name).check_installed()
    _check_spec(out, spec)
    left = [scene for scene in scenes if not (out / scene.path).is_file()]
    # A worker stays with a task; within it, a change of profile costs a new simulator.
    left.sort(key=lambda scene: scene.profile)
    failures = []
    # The pool only looks at the suite and the task of what it hands out.
    reader: Any = SimpleNamespace(demos=left)
    make = partial(_SceneMaker, left, spec.sampling, out)
    bar = tqdm(total=len(scenes), initial=len(scenes) - len(left), unit="scene", disable=not progress, file=sys.stderr)
    with bar:
        for number, answer in map_demos(make, reader, range(len(left)), workers):
            if isinstance(answer, Crash):
                answer = f"its process {answer.how}"
            if answer:
                failures.append(f"{left[number].path}: {answer}")
            bar.update()
    return failures


class _SceneMaker:
    """Makes one scene after another in a process, and keeps the simulator while the task stays the same."""

    def __init__(self, scenes: Sequence[SceneSpec], sampling: SamplingSpec, out: Path) -> None:
        self._scenes, self._sampling, self._out = scenes, sampling, out
        self._expert = make_agent("scripted", {})
        self._env: TaskEnv | None = None

    def __call__(self, number: int) -> str:
        scene = self._scenes[number]
        env = self._env_of(scene)
        rng = derive_rng(scene.path, "pairs")
        try:
            pairs, infos = sample_scene(env, self._expert, scene.seed, scene.views, self._sampling, rng)
        except Exception as error:  # One scene that cannot be solved or seen is not the end of the set.
            return f"{type(error).__name__}: {error}"
        write_pairs(self._out / scene.path, pairs, infos)
        return ""

    def close(self) -> None:
        if self._env is not None:
            self._env.close()

    def _env_of(self, scene: SceneSpec) -> TaskEnv:
        key = (scene.suite, scene.task, scene.profile)
        if self._env is None or (self._env.suite.name, self._env.task.name, self._env.config.profile) != key:
            self.close()
            suite = get_suite(scene.suite)
            config = EnvConfig(modalities=(), profile=scene.profile, lazy=True, privileged=True, image_view="geometric")
            self._env = TaskEnv(suite, suite.task(scene.task), suite.rules(), config)
        return self._env


def _check_spec(out: Path, spec: PairSetSpec) -> None:
    """Keep what a set was made from beside it; another number of scenes is the same set, longer or shorter."""
    wanted = json.loads(json.dumps(asdict(spec)))
    path = out / SPEC
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        other = [name for name in wanted if name != "scenes_per_task" and found.get(name) != wanted[name]]
        if other:
            name, before, now = _narrowed(other[0], found.get(other[0]), wanted[other[0]])
            raise DataError(
                f"{out} holds pairs made with {name} = {before}, and this set has {now}. Give another --out, or delete the "
                "folder."
            )
    write_text_atomically(path, json.dumps(wanted, indent=1) + "\n")


def _narrowed(name: str, before: Any, now: Any) -> tuple[str, str, str]:
    """Return the name of what differs and both values, of mappings (tasks of 4 suites) the first entry that does."""
    if isinstance(before, dict) and isinstance(now, dict):
        key = next(key for key in sorted({*before, *now}) if before.get(key) != now.get(key))
        return _narrowed(f"{name}.{key}", before.get(key), now.get(key))
    return name, *(textwrap.shorten(json.dumps(value), 160, placeholder=" ...") for value in (before, now))
