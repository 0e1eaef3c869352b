"""Which part of a method loses what: the same episodes with one part after another made perfect.

A method that plans, reads motion and acts has one number, and no part of it is to blame. A ladder runs it with everything
replaced by the truth, then takes the truth away part by part; what a step costs, paired scenario by scenario, is what that
part loses. Every rung is an ordinary evaluation in a folder of its own, which can be resumed, tabled and compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowbench.compare import compare, difference_text, number, p_text, rate_text
from flowbench.evaluate import EvalOptions, evaluate
from flowbench.outcomes import RunOutcomes, count_errors, sample_of
from flowbench.rungs import Rung
from flowbench.sheet import NOTHING, Group, Line, Sheet, SheetCell
from flowbench.spec import EvalSpec
from flowbench.stats import Difference, Rate, clustered_rate
from flowbench.store import ResultStore, Run
from flowbench.tables import ErrorAccounting

#: Columns about what an episode costs and how well its plans were read, where an agent counts it (`episode_metrics`).
METRICS = {
    "replans": "replans",
    "planning_s": "planning s",
    "model_calls": "model calls",
    "plan_error_m": "plan off by m",
    "plan_error_along_view_m": "along view m",
}


def run_ladder(rungs: Sequence[Rung], spec: EvalSpec, folder: Path, options: EvalOptions) -> list[Run]:
    """Evaluate every rung that the folder does not hold yet, or not completely.

    Args:
        rungs: The ladder.
        spec: Suite, tasks, cameras and scenarios; its agent is replaced.
        folder: Gets a folder per rung.
        options: How to run them.

    Raises:
        FlowBenchError: If a rung's spec is wrong, or its folder holds another evaluation. All are looked at before the first
            is run.
    """
    specs = [rung.spec(spec) for rung in rungs]
    for rung, own in zip(rungs, specs):
        own.check()
        ResultStore.check(folder / rung.name, own, resume=options.resume)
    return [evaluate(own, folder / rung.name, options) for rung, own in zip(rungs, specs)]


@dataclass(frozen=True)
class LadderRow:
    """One rung with what it cost.

    Attributes:
        rung: The rung.
        rate: Its success.
        errors: Episodes that could not be carried out.
        loss: From the rung before it to this one, as a share (negative if it lost); for the first rung from a perfect score,
            for controls from the last part. None where there is nothing to compare.
        against: Name of that rung; empty for a perfect score.
        tasks: Success by task.
        metrics: Mean per episode of what the agent counted.
    """

    rung: Rung
    rate: Rate
    errors: int
    loss: Difference | None
    against: str
    tasks: Mapping[str, Rate]
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Ladder:
    """A ladder that has been run.

    Attributes:
        agent: Name of the agent.
        spec: What all rungs share.
        rows: The rungs in order.
        accounting: How errors were counted.
    """

    agent: str
    spec: EvalSpec
    rows: tuple[LadderRow, ...]
    accounting: ErrorAccounting

    @property
    def groups(self) -> dict[str, list[LadderRow]]:
        """The rows by group, in order."""
        found: dict[str, list[LadderRow]] = {}
        for row in self.rows:
            found.setdefault(row.rung.group, []).append(row)
        return found

    @property
    def sheet(self) -> Sheet:
        """The attribution as people see it."""
        shown = [name for name in METRICS if any(name in row.metrics for row in self.rows)]
        headings = (
            "success % [95 %]",
            "n",
            "errors",
            "lost by",
            "points [95 %]",
            "p",
            *(METRICS[name] for name in shown),
        )
        groups = tuple(
            Group(heading, tuple(_line(row, shown) for row in rows)) for heading, rows in self.groups.items()
        )
        spec = self.spec
        counted = "counted as failures" if self.accounting == "failure" else "left out, with their partners"
        return Sheet(
            caption=(
                f"Ladder of agent {self.agent}: suite {spec.suite}, protocol {spec.protocol}, {len(spec.tasks)} tasks x "
                f"{len(spec.cameras)} cameras x {len(spec.scenarios)} scenarios."
            ),
            labels=("rung",),
            spans=(),
            headings=headings,
            groups=groups,
            notes=(
                "Each rung takes away one truth that the rung above it had; the points are what that cost, paired by scenario. "
                "The first rung of a group is compared with a perfect score, a control with the last rung that is none: "
                "what the method knows is what it is above its control.",
                "Rates are means over task x camera cells. Intervals: Wilson's for rates, Tango's for paired differences; "
                "episodes of one scenario seen by several cameras count as one where they agree. p: exact sign-flip test.",
                f"Errors, {counted}. Rungs with a truth in them are privileged: they read the simulator's state.",
            ),
            records=tuple(_record(row) for row in self.rows),
            facts={
                "agent": self.agent,
                "suite": spec.suite,
                "protocol": spec.protocol,
                "errors_counted": self.accounting,
                "by_task": {
                    row.rung.name: {task: number(rate.mean) for task, rate in row.tasks.items()} for row in self.rows
                },
            },
        )

    @property
    def by_task(self) -> LadderByTask:
        """The rungs side by side, task by task."""
        return LadderByTask(self)


@dataclass(frozen=True)
class LadderByTask:
    """A ladder with a line per task and a column per rung."""

    ladder: Ladder

    @property
    def sheet(self) -> Sheet:
        """The table as people see it."""
        rows = self.ladder.rows
        lines = [
            Line((task,), tuple(SheetCell((_percent(row.tasks.get(task)),)) for row in rows))
            for task in self.ladder.spec.tasks
        ]
        overall = Line(("overall",), tuple(SheetCell((_percent(row.rate),)) for row in rows))
        return Sheet(
            caption="Success in % by task, mean over cameras.",
            labels=("task",),
            spans=(),
            headings=tuple(row.rung.name for row in rows),
            groups=(Group("", tuple(lines)), Group("", (overall,))),
            notes=(),
            records=tuple({"rung": row.rung.name, **_rate(row.rate)} for row in rows),
        )


def attribute(
    agent: str, rungs: Sequence[Rung], folders: Sequence[Path], *, errors: ErrorAccounting = "failure"
) -> Ladder:
    """Lay the runs of a ladder beside each other.

    Args:
        agent: Name of the agent.
        rungs: The ladder.
        folders: A stored run per rung.
        errors: `failure` counts errors as failures, which is AVDC's accounting; `exclude` leaves them out.

    Raises:
        FlowBenchError: If a run is missing or the runs are not comparable.
    """
    outcomes = {rung.name: RunOutcomes.read(folder) for rung, folder in zip(rungs, folders)}
    rows = []
    for rung, folder in zip(rungs, folders):
        before = _before(rung, rungs)
        run = outcomes[rung.name]
        counted = count_errors(run.frame, errors)
        loss = None
        if before is not None:
            loss = compare(outcomes[before.name], run, errors=errors).overall.difference
        elif rung.part is not None:
            loss = _from_perfect(_rate_of(counted))
        tasks = {task: _rate_of(group) for task, group in counted.groupby("task", sort=False)}
        rows.append(
            LadderRow(
                rung,
                _rate_of(counted),
                run.count("error"),
                loss,
                before.name if before else "",
                tasks,
                _mean_metrics(ResultStore.read(folder)),
            )
        )
    return Ladder(agent, next(iter(outcomes.values())).spec, tuple(rows), errors)


def _before(rung: Rung, rungs: Sequence[Rung]) -> Rung | None:
    """Return the rung that this one is compared with: the last one before it in its group that is no control."""
    earlier = rungs[: list(rungs).index(rung)]
    candidates = [other for other in earlier if other.group == rung.group and other.part is not None]
    return candidates[-1] if candidates else None


def _rate_of(counted: Any) -> Rate:
    return clustered_rate(sample_of(counted, counted["success"]), 0.95)


def _from_perfect(rate: Rate) -> Difference:
    """Return what is missing to a perfect score, with the rate's own interval."""
    return Difference(rate.mean - 1, rate.low - 1, rate.high - 1, float("nan"), rate.n, float("nan"))


def _mean_metrics(run: Run) -> dict[str, float]:
    names = dict.fromkeys(name for result in run.results for name in result.metrics)
    return {
        name: sum(values) / len(values)
        for name in names
        if (values := [result.metrics[name] for result in run.results if name in result.metrics])
    }


def _line(row: LadderRow, shown: Sequence[str]) -> Line:
    loss = row.loss
    part = row.rung.part or (f"control, against {row.against}" if row.against else "control")
    texts = [rate_text(row.rate), str(row.rate.n), str(row.errors), part]
    texts += [NOTHING, NOTHING] if loss is None else [difference_text(loss), p_text(loss.p)]
    texts += [f"{row.metrics[name]:.2f}" if name in row.metrics else NOTHING for name in shown]
    return Line((row.rung.says,), tuple(SheetCell((text,)) for text in texts))


def _record(row: LadderRow) -> dict[str, Any]:
    loss = row.loss
    return {
        "rung": row.rung.name,
        "group": row.rung.group,
        "says": row.rung.says,
        "part": row.rung.part,
        **_rate(row.rate),
        "n_error": row.errors,
        "against": row.against or None,
        "difference": number(loss.estimate) if loss else None,
        "difference_ci_low": number(loss.low) if loss else None,
        "difference_ci_high": number(loss.high) if loss else None,
        "p": number(loss.p) if loss else None,
        **{f"mean_{name}": row.metrics.get(name) for name in METRICS},
    }


def _rate(rate: Rate) -> dict[str, Any]:
    return {
        "success_rate": number(rate.mean),
        "ci95_low": number(rate.low),
        "ci95_high": number(rate.high),
        "n": rate.n,
    }


def _percent(rate: Rate | None) -> str:
    return NOTHING if rate is None or not rate.n else f"{100 * rate.mean:.1f}"
