"""Names to objects: suites and agents are found through entry points, ours and other people's alike.

The groups are `flowbench.suites` (each entry a `Suite`) and `flowbench.agents` (each entry an agent class).
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowbench.errors import AgentError, BadValue, FlowBenchError, missing_extra, unknown_name
from flowbench.suite import Suite, load_object

if TYPE_CHECKING:
    from flowbench.agent import Agent
    from flowbench.env import TaskEnv

SUITE_GROUP = "flowbench.suites"
AGENT_GROUP = "flowbench.agents"


@cache
def entries_of(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of a group by name.

    Raises:
        FlowBenchError: If there are none, so that FlowBench cannot have been installed.
    """
    entries = {entry.name: entry for entry in entry_points(group=group)}
    if not entries:
        raise FlowBenchError("FlowBench is not installed: no entry points found. Run: pip install -e .")
    return entries


def suite_names() -> list[str]:
    """Return the names of every installed suite, without importing a simulator."""
    return list(entries_of(SUITE_GROUP))


def agent_names() -> list[str]:
    """Return the names of every installed agent."""
    return list(entries_of(AGENT_GROUP))


@cache
def get_suite(name: str) -> Suite:
    """Return a suite by name.

    Raises:
        UnknownName: With the nearest name.
    """
    entries = entries_of(SUITE_GROUP)
    if name not in entries:
        raise unknown_name("suite", name, entries, next_step="List them: flowbench list suites")
    suite = entries[name].load()
    if not isinstance(suite, Suite):
        raise BadValue(f"Entry point {name!r} ({entries[name].value}) is a {type(suite).__name__}; expected a Suite.")
    return suite


def suite_on(name: str, backend: str | None) -> Suite:
    """Return a suite by name, on the backend that the user chose; None where the name says all.

    Raises:
        UnknownName: With the nearest name.
        BadValue: If the suite has no backends, or the backend is `auto`.
    """
    suite = get_suite(name)
    if backend is None:
        return suite
    if not suite.backends:
        raise BadValue(f"Suite {name} has no backends to choose from; leave out --backend {backend}.")
    if backend == "auto":
        raise BadValue(
            f"--backend auto takes whatever is there, and a result has to say what it stands on. Choose one of suite {name}: "
            f"{', '.join(suite.backends)}."
        )
    if backend not in suite.backends:
        raise unknown_name("backend", backend, suite.backends, f"Suite {name}")
    return get_suite(suite.backends[backend])


def agent_class(name: str) -> type:
    """Return an agent's class from a registered name, `package.module:Class`, or `path/to/file.py[:Class]`.

    Raises:
        UnknownName: With the nearest registered name.
        AgentError: If a module or file does not define it.
        MissingExtra: If the agent's dependencies are not installed.
    """
    entries = entries_of(AGENT_GROUP)
    try:
        if name in entries:
            return entries[name].load()
        path, _, attribute = name.partition(":")
        if path.endswith(".py"):
            return _class_from_file(Path(path), attribute)
        if attribute:
            return load_object(name)
    except ModuleNotFoundError as error:
        module = error.name or ""
        if name in entries and not module.startswith("flowbench"):
            raise missing_extra(f"Agent {name}", "agents", error) from error
        raise AgentError(
            f"Agent {name!r} could not be imported: no module named {module!r}. Check the spelling, and that it is "
            "installed or on PYTHONPATH."
        ) from error
    except (ImportError, SyntaxError, ValueError) as error:  # ValueError: an empty module name, as in `:Class`
        raise AgentError(f"Agent {name!r} could not be imported: {error}.") from error
    step = "An agent can also be given as package.module:Class or as path/to/file.py:Class. List them: flowbench list agents"
    raise unknown_name("agent", name, entries, next_step=step)


def wants_checkpoint(cls: type) -> bool:
    """Return whether an agent cannot be built without a checkpoint."""
    parameter = inspect.signature(cls).parameters.get("checkpoint")
    return parameter is not None and parameter.default is inspect.Parameter.empty


def make_agent(name: str, arguments: dict[str, Any], *, device: str = "cpu", checkpoint: str | None = None) -> Agent:
    """Build an agent.

    Args:
        name: As `agent_class` takes it.
        arguments: Constructor arguments, from `--agent-args`.
        device: Passed on if the constructor has a parameter of that name.
        checkpoint: Likewise.

    Raises:
        BadValue: If the constructor does not take the arguments.
        AgentError: If the object breaks the agent contract.
    """
    cls = agent_class(name)
    parameters = inspect.signature(cls).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for argument in arguments:
        if argument not in parameters and not takes_any:
            raise unknown_name("argument", argument, parameters, f"Agent {name}", "Arguments come from --agent-args.")
    if checkpoint is not None and "checkpoint" not in parameters and not takes_any:
        raise BadValue(f"Agent {name} takes no checkpoint, but --checkpoint {checkpoint} was given.")
    if checkpoint is None and wants_checkpoint(cls) and "checkpoint" not in arguments:
        raise BadValue(f"Agent {name} needs a checkpoint. Give it with --checkpoint PATH.")
    # A checkpoint that was not given leaves the constructor's own default.
    extra = {} if checkpoint is None else {"checkpoint": checkpoint}
    if "device" in parameters and "device" not in arguments:
        extra["device"] = device
    try:
        inspect.signature(cls).bind(**arguments, **extra)
    except TypeError as error:
        raise BadValue(
            f"Agent {name} could not be built from {arguments}: {error}. Give it with --agent-args."
        ) from error
    agent = cls(**arguments, **extra)
    for member in ("needs", "reset", "act"):
        if not hasattr(agent, member):
            raise AgentError(
                f"Agent {name} has no {member!r}; an agent has `needs`, `reset(task, cameras, seed)` and "
                "`act(observation)`. Check yours with flowbench.testing.check_agent."
            )
    return agent


def make(
    suite: str, task: str | None = None, *, protocol: str | None = None, render_mode: str | None = None, **config: Any
) -> TaskEnv:
    """Build the Gymnasium environment of one task.

    Args:
        suite: Name of a suite, e.g. `"metaworld11"`; or `"suite/task"`.
        task: Name of a task; None takes the one in `suite`, or the suite's first.
        protocol: Name of a protocol; None takes the suite's default.
        render_mode: As in Gymnasium: `rgb_array`, `depth_array`, `rgbd_tuple` or None.
        **config: Fields of `flowbench.EnvConfig`: `cameras`, `modalities`, `image_size`, `image_view`, ...

    Example:
        >>> import flowbench
        >>> env = flowbench.make("toy", "push", cameras=("front+yaw5",), modalities=("rgb", "depth"))
        >>> observation, info = env.reset(seed=3)
        >>> observation["front+yaw5/depth"].dtype
        dtype('float32')
    """
    from flowbench.env import EnvConfig, TaskEnv

    suite_name, _, task_in_name = suite.partition("/")
    found = get_suite(suite_name)
    chosen = found.task(task or task_in_name) if task or task_in_name else found.tasks[0]
    for field in config:
        if field not in EnvConfig.__dataclass_fields__:
            raise unknown_name("option", field, EnvConfig.__dataclass_fields__, "flowbench.make")
    cameras = config.pop("cameras", (found.default_view,))
    cameras = (cameras,) if isinstance(cameras, str) else tuple(cameras)
    modalities = config.pop("modalities", ("rgb", "depth", "calibration"))
    modalities = (modalities,) if isinstance(modalities, str) else tuple(modalities)
    return TaskEnv(found, chosen, found.rules(protocol), EnvConfig(cameras, modalities, **config), render_mode)


def _class_from_file(path: Path, attribute: str) -> type:
    if not path.is_file():
        raise AgentError(f"Agent file {str(path)!r} does not exist.")
    spec = importlib.util.spec_from_file_location(f"flowbench_agent_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    if attribute:
        if not hasattr(module, attribute):
            raise AgentError(f"Agent file {str(path)!r} defines no {attribute!r}.")
        return getattr(module, attribute)
    candidates = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and value.__module__ == spec.name and hasattr(value, "act")
    ]
    if len(candidates) != 1:
        names = ", ".join(value.__name__ for value in candidates) or "none"
        raise AgentError(f"Agent file {str(path)!r} defines {names} with an `act` method; name one: {path}:ClassName.")
    return candidates[0]
