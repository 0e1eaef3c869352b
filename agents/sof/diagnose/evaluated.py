"""Success of several settings in the same scenarios, each an ordinary run in a folder of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flowbench.agents.sof.diagnose.pictures import Bar
from flowbench.evaluate import EvalOptions, evaluate
from flowbench.manifest import content_hash
from flowbench.spec import AgentSpec, EvalSpec
from flowbench.tables import RunSummary, ScoreTable, aggregate


def spec_of(options: Mapping[str, Any], suite: str) -> EvalSpec:
    """Return what is evaluated, from the options of a command: `tasks`, `cameras`, `seeds`, `init_states`, `episodes`.

    What a command does not offer is as in `flowbench eval`.
    """
    from flowbench.cli.eval import build_spec, eval_

    with eval_.make_context("eval", ["--agent", "zero", "--suite", suite]) as context:
        return build_spec({**context.params, **options, "suite": suite, "agent": "zero", "checkpoint": None})


def compare_settings(
    spec: EvalSpec, settings: Mapping[str, tuple[str, Mapping[str, Any]]], out: Path, options: EvalOptions
) -> tuple[ScoreTable, list[Bar]]:
    """Evaluate agent `sof` in several settings.

    Args:
        spec: Suite, tasks, cameras and scenarios; its agent is replaced.
        settings: Checkpoint and constructor arguments by name; an interrupted comparison goes on where it stopped.
        out: Gets a folder per setting.
        options: How to run them.
    """
    summaries = []
    for name, (checkpoint, arguments) in settings.items():
        agent = AgentSpec("sof", dict(arguments), checkpoint, content_hash("sof", checkpoint))
        run = evaluate(replace(spec, agent=agent), out / name, options)
        summaries.append(RunSummary.from_results(run.manifest, run.results, name))
    return aggregate(summaries), bars_of(summaries, list(settings))


def bars_of(summaries: Sequence[RunSummary], names: Sequence[str]) -> list[Bar]:
    """Return the overall success of runs, for drawing."""
    (row,) = aggregate(summaries, ["overall"]).rows
    return [
        (name, score.rate, score.low, score.high)
        for name, score in zip(names, row.scores, strict=True)
        if score is not None
    ]
