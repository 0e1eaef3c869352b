"""A suite is data: named tasks, protocols and cameras, and the import string of the simulator that runs them.

Nothing is imported until `make_simulator`, so suites of simulators that are not installed can still be listed.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from flowbench.errors import BadValue, MissingExtra, missing_extra, unknown_name
from flowbench.simulator import RenderSettings, Simulator
from flowbench.task import ProtocolRules, Task


class RecordedField(NamedTuple):
    """Where a named part of the robot's state is found.

    Attributes:
        source: `proprio`, or `states` for the physics vector.
        start: Index of its first component.
        stop: Index after its last one.
    """

    source: Literal["proprio", "states"]
    start: int
    stop: int


@dataclass(frozen=True)
class Suite:
    """A named set of tasks with a protocol.

    Attributes:
        name: Name on the command line.
        family: Name of the simulator; Gymnasium ids of several suites may share it.
        tasks: The tasks, in their published order.
        protocols: Rule sets by name; the first one is the default.
        views: Names of the simulator's cameras.
        default_view: The camera used when none is asked for.
        image_size: Default (width, height) in pixels.
        view_sizes: Default (width, height) of cameras whose upstream size is another one.
        simulator: Import string `module:Class` of the `Simulator`.
        requires: Modules that must be importable.
        extra: The FlowBench extra that installs them.
        init_states: Number of stored initial states per task; None when scenarios are sampled from a seed.
        sampled_starts: Whether a suite with stored initial states can also sample one from the seed: `Scenario(seed, None)`.
            Demonstrations start there, so that they never start where the suite evaluates.
        policy_view_mirrored: Whether the images that published checkpoints of this suite were trained on are mirrored
            horizontally; that is the `policy` image view.
        prepare: Import string `module:function` of what must run in a process before the simulator is imported.
        describe_renderer: Import string `module:function` that returns what draws the images, as a NamedTuple of
            strings.
        fingerprints: Resource `package:file.json` with the reference colours of `flowbench.fingerprint`; may be empty.
        control_hz: Agent steps per second of simulated time.
        setup_check: Import string `module:function` of a function that says what `flowbench setup` still has to fetch, with
            the command, in one sentence; None if nothing is missing. It imports no simulator.
        recorded_fields: Named parts of the robot's state that demonstrations hold beside `proprio`, under the names that
            existing loaders of this suite's data look for.
        content_versions: Import string `module:function` that returns the versions, by name, of what no package index has and
            results depend on; they are recorded with every run.
        view_aliases: Other names under which such loaders look for a camera's RGB images, by camera.
        backends: Names of the suites that run these tasks on a certain backend, by the word that `--backend` takes. A suite
            that has any is run on whatever is there, and not evaluated itself: a result has to say what it stands on.
        caveat: What a table has to say of this suite's numbers beside them, e.g. `"another world: ..."`; the words before the
            colon mark a method.
        version: Raised when an episode id of this suite no longer means the same episode.
    """

    name: str
    family: str
    tasks: tuple[Task, ...]
    protocols: Mapping[str, ProtocolRules]
    views: tuple[str, ...]
    default_view: str
    image_size: tuple[int, int]
    simulator: str
    requires: tuple[str, ...] = ()
    extra: str = ""
    init_states: int | None = None
    sampled_starts: bool = False
    policy_view_mirrored: bool = False
    prepare: str = ""
    describe_renderer: str = ""
    fingerprints: str = ""
    control_hz: float = 20.0
    view_sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    setup_check: str = ""
    content_versions: str = ""
    recorded_fields: Mapping[str, RecordedField] = field(default_factory=dict)
    view_aliases: Mapping[str, str] = field(default_factory=dict)
    backends: Mapping[str, str] = field(default_factory=dict)
    caveat: str = ""
    version: int = 1

    @property
    def default_protocol(self) -> str:
        """Name of the protocol used when none is asked for."""
        return next(iter(self.protocols))

    def task(self, name: str) -> Task:
        """Return a task by name.

        Raises:
            UnknownName: With the nearest name.
        """
        for task in self.tasks:
            if task.name == name:
                return task
        names = [task.name for task in self.tasks]
        raise unknown_name("task", name, names, f"Suite {self.name}", f"List them: flowbench list tasks {self.name}")

    def check_backend(self) -> None:
        """Check that the suite says what it runs on.

        Raises:
            BadValue: If it has backends to choose from.
        """
        if self.backends:
            raise BadValue(
                f"Suite {self.name} runs on one of several backends, and a result has to say on which. Choose one: --backend "
                f"{', --backend '.join(self.backends)}."
            )

    def rules(self, protocol: str | None = None) -> ProtocolRules:
        """Return a protocol's rules by name; None stands for the default.

        Raises:
            UnknownName: With the nearest name.
        """
        name = protocol or self.default_protocol
        if name not in self.protocols:
            raise unknown_name("protocol", name, self.protocols, f"Suite {self.name}")
        return self.protocols[name]

    def check_view(self, name: str) -> None:
        """Check that a camera of this name exists.

        Raises:
            UnknownName: With the nearest name.
        """
        if name not in self.views:
            step = f"List them: flowbench list cameras {self.name}"
            raise unknown_name("camera", name, self.views, f"Suite {self.name}", step)

    def missing_modules(self) -> tuple[str, ...]:
        """Return the required modules that are not installed, without importing any."""
        return tuple(module for module in self.requires if importlib.util.find_spec(module) is None)

    def missing_setup(self) -> str | None:
        """Return what `flowbench setup` still has to fetch, in one sentence; None if nothing is missing."""
        return load_object(self.setup_check)() if self.setup_check else None

    def check_installed(self) -> None:
        """Check that the simulator can be imported.

        Raises:
            MissingExtra: With the command that installs it.
        """
        missing = self.missing_modules()
        if missing:
            raise missing_extra(f"Suite {self.name}", self.extra, f"no module named {missing[0]!r}")
        if (sentence := self.missing_setup()) is not None:
            raise MissingExtra(sentence)

    def make_simulator(self, task: Task, rules: ProtocolRules, render: RenderSettings) -> Simulator:
        """Build the simulator of one task in this process.

        Raises:
            MissingExtra: If the simulator is not installed.
        """
        self.check_installed()
        if self.prepare:
            load_object(self.prepare)()
        return load_object(self.simulator)(task, rules, render)

    def subset(self, name: str, task_names: tuple[str, ...]) -> Suite:
        """Return a suite of some of these tasks under another name, in the order given."""
        tasks = tuple(replace(self.task(task_name), suite=name) for task_name in task_names)
        return replace(self, name=name, tasks=tasks)


def load_object(import_string: str) -> object:
    """Import `module:attribute`.

    Raises:
        ImportError: If the module or the attribute does not exist.
    """
    module_name, _, attribute = import_string.partition(":")
    module = importlib.import_module(module_name)
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise ImportError(f"module {module_name!r} has no attribute {attribute!r}") from None
