"""FlowBench: evaluation of robot policies that go through video, optical flow or latent skills to actions.

Public names are imported when first used, so that `import flowbench` stays fast and needs no simulator.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "ActionChunker": "flowbench.agent",
    "Agent": "flowbench.agent",
    "Needs": "flowbench.agent",
    "CameraParams": "flowbench.camera",
    "CameraPose": "flowbench.camera",
    "EnvConfig": "flowbench.env",
    "TaskEnv": "flowbench.env",
    "FlowBenchError": "flowbench.errors",
    "Observation": "flowbench.observation",
    "ActionSpec": "flowbench.task",
    "ProtocolRules": "flowbench.task",
    "Scenario": "flowbench.task",
    "Task": "flowbench.task",
    "Frame": "flowbench.simulator",
    "Simulator": "flowbench.simulator",
    "Suite": "flowbench.suite",
    "make": "flowbench.registry",
    "EpisodeSpec": "flowbench.spec",
    "EvalSpec": "flowbench.spec",
    "EpisodeResult": "flowbench.result",
    "ResultStore": "flowbench.store",
    "RunManifest": "flowbench.manifest",
    "evaluate": "flowbench.evaluate",
}

__all__ = ["__version__", *sorted(_PUBLIC)]

if TYPE_CHECKING:
    from flowbench.agent import ActionChunker, Agent, Needs
    from flowbench.camera import CameraParams, CameraPose
    from flowbench.env import EnvConfig, TaskEnv
    from flowbench.errors import FlowBenchError
    from flowbench.evaluate import evaluate
    from flowbench.manifest import RunManifest
    from flowbench.observation import Observation
    from flowbench.registry import make
    from flowbench.result import EpisodeResult
    from flowbench.simulator import Frame, Simulator
    from flowbench.spec import EpisodeSpec, EvalSpec
    from flowbench.store import ResultStore
    from flowbench.suite import Suite
    from flowbench.task import ActionSpec, ProtocolRules, Scenario, Task


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'flowbench' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})


# Gymnasium 1.x has no plug-in entry points; ids exist once the package that owns them is imported.
from flowbench.gym_ids import register_envs as _register_envs  # noqa: E402

_register_envs()
