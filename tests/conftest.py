"""Fixtures shared by tests of what reads stored runs."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

# Two pytest processes on two cores must not start four threads each; set before NumPy is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from flowbench.manifest import RunManifest
from flowbench.result import EpisodeResult
from flowbench.spec import AgentSpec, EpisodeSpec, EvalSpec
from flowbench.store import ResultStore

SPEC = EvalSpec("toy", "default", AgentSpec("random"), ("reach", "push"), ("front", "side"), (0, 1, 2, 3, 4))


def episode_result(episode: EpisodeSpec, status: str, agent: str = "random", **changes) -> EpisodeResult:
    """Make the result that an episode might have had."""
    result = EpisodeResult.of(
        episode,
        protocol="default",
        agent=agent,
        privileged=False,
        status=status,
        steps=12,
        first_success=12 if status == "success" else None,
        total_reward=1.5,
        seconds=0.1,
        agent_seconds=0.01,
        agent_calls=12,
        error="it broke" if status == "error" else None,
    )
    return replace(result, **changes)


@pytest.fixture
def write_run(tmp_path) -> Callable[..., Path]:
    """Return a function that stores a run under a name.

    `outcome(episode)` says how each episode of the spec ended; None leaves it out. Keywords change the spec, except
    `agent`, `checkpoint`, `privileged`, `modalities`, `versions` and `renderer`.
    """

    def write(
        name: str,
        outcome: Callable[[EpisodeSpec], str | None] = lambda episode: "success",
        *,
        agent: str = "random",
        privileged: bool = False,
        modalities: tuple[str, ...] = ("rgb",),
        versions: dict[str, str] | None = None,
        renderer: dict[str, str] | None = None,
        checkpoint: str | None = None,
        **changes,
    ) -> Path:
        named = AgentSpec(agent, checkpoint=checkpoint, content_sha256=checkpoint)
        spec = replace(SPEC, agent=named, **changes)
        command = f"flowbench eval --agent {agent} --suite {spec.suite}"
        manifest = RunManifest.collect(spec, command=command, privileged=privileged, modalities=modalities)
        if versions is not None:
            manifest = replace(manifest, versions=versions)
        if renderer is not None:
            manifest = replace(manifest, renderer=renderer)
        with ResultStore.open(tmp_path / name, manifest) as store:
            for episode in spec.episodes():
                if (status := outcome(episode)) is not None:
                    store.append(episode_result(episode, status, agent))
        return tmp_path / name

    return write
