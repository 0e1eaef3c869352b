"""Measure how often the intervals cover and the tests err, for docs/statistics.md.

`python docs/make_coverage_study.py` writes the CSV files and figures of docs/statistics/. What can be enumerated is: one
rate, a paired and an unpaired difference are exact sums over all outcomes. The rest is simulated, with the number of
repetitions in each row. Half an hour on one core; `--part NAME` makes one of them, `--figures` draws from the files again.
"""

from __future__ import annotations

import argparse
import csv
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binom

from flowbench.stats import (
    ClusteredSample,
    bootstrap_interval,
    chain_scores,
    clopper_pearson_interval,
    clustered_rate,
    episodes_needed,
    mcnemar_exact,
    mean_of_cells,
    paired_difference,
    pairs_needed,
    tango_interval,
    wilson_interval,
)
from flowbench.stats.noninferiority import decide, decide_sequentially, independent_evidence, paired_evidence

FOLDER = Path(__file__).resolve().parent / "statistics"
RATES = np.round(np.arange(0.02, 0.981, 0.02), 2)
SIZES = (10, 20, 25, 50, 75, 100, 200, 500)
Rows = Iterator[dict[str, Any]]


def covers(low: np.ndarray, high: np.ndarray, truth: float) -> np.ndarray:
    """Whether intervals hold the truth; a bound that equals it up to rounding does."""
    return (low <= truth + 1e-12) & (truth - 1e-12 <= high)


# --- What can be enumerated ---------------------------------------------------------------------------------------


def single_rate() -> Rows:
    """One rate of n independent episodes."""
    for name, interval in (("wilson", wilson_interval), ("clopper-pearson", clopper_pearson_interval)):
        for n in SIZES:
            successes = np.arange(n + 1)
            low, high = interval(successes, n)
            for rate in RATES:
                chance = binom.pmf(successes, n, rate)
                yield {
                    "method": name,
                    "n": n,
                    "rate": rate,
                    "coverage": chance @ covers(low, high, rate),
                    "width": chance @ (high - low),
                }


def paired() -> Rows:
    """A paired difference of n independent pairs: Tango's interval, and the level and power of McNemar's exact test."""
    for n in (10, 25, 50, 100, 200):
        only_b, only_a = (part.ravel() for part in np.meshgrid(np.arange(n + 1), np.arange(n + 1)))
        possible = only_a + only_b <= n
        only_a, only_b = only_a[possible], only_b[possible]
        low, high = tango_interval(only_b, only_a, n)
        rejects = mcnemar_exact(only_a, only_b) <= 0.05
        for discordance, difference in itertools.product((0.02, 0.05, 0.1, 0.2, 0.4, 0.6), (0.0, 0.05, 0.1, 0.2)):
            if difference > discordance:
                continue
            differing, share_b = only_a + only_b, (discordance + difference) / (2 * discordance)
            chance = binom.pmf(differing, n, discordance) * binom.pmf(only_b, differing, share_b)
            yield {
                "n": n,
                "discordance": discordance,
                "difference": difference,
                "coverage": chance @ covers(low, high, difference),
                "width": chance @ (high - low),
                "rejected": chance @ rejects,
            }


def unpaired() -> Rows:
    """A difference of two independent rates: Newcombe's interval."""
    from statsmodels.stats.proportion import confint_proportions_2indep

    for n in (10, 25, 50, 100):
        a, b = (part.ravel() for part in np.meshgrid(np.arange(n + 1), np.arange(n + 1)))
        low, high = confint_proportions_2indep(b, n, a, n, method="newcomb", compare="diff")
        for rate, difference in itertools.product((0.05, 0.1, 0.2, 0.5, 0.8, 0.9, 0.95), (0.0, 0.1, 0.2)):
            if rate + difference > 1:
                continue
            chance = binom.pmf(a, n, rate) * binom.pmf(b, n, rate + difference)
            yield {
                "n": n,
                "rate": rate,
                "difference": difference,
                "coverage": chance @ covers(low, high, difference),
                "width": chance @ (high - low),
            }


# --- What is simulated --------------------------------------------------------------------------------------------


def draw(
    generator: np.random.Generator, rates: np.ndarray, scenarios: int, cameras: int, together: float, agents: int = 1
) -> np.ndarray:
    """Draw (agents, T, S, C) outcomes.

    Args:
        generator: Source of randomness.
        rates: (agents, T) true rates.
        scenarios: Scenarios per task S.
        cameras: Cameras C.
        together: Chance that all cameras of a scenario show the same episode.
        agents: With several, half of the scenarios are equally hard for all of them.
    """
    shape = (len(rates), rates.shape[1], scenarios, cameras)
    threshold = np.broadcast_to(rates[:, :, None, None], shape)
    luck = generator.random(shape)
    luck = np.where(generator.random(shape[:3] + (1,)) < together, luck[..., :1], luck)
    if agents > 1:
        common = generator.random((1, *shape[1:]))
        common = np.where(generator.random((1, *shape[1:3], 1)) < together, common[..., :1], common)
        luck = np.where(generator.random((1, *shape[1:3], 1)) < 0.5, common, luck)
    return (luck < threshold).astype(float)


def task_rates(kind: str, rate: float, tasks: int) -> np.ndarray:
    """Rates of T tasks with this mean: all the same, or half of them easy and half of them hard."""
    if kind == "same":
        return np.full(tasks, rate)
    spread = 0.9 * min(rate, 1 - rate) * np.where(np.arange(tasks) % 2, 1, -1)
    return rate + spread - spread.mean()


def several_cameras(generator: np.random.Generator) -> Rows:
    """A rate over tasks and cameras, whose scenarios fail together."""
    repetitions = 400
    suites = ((1, 25, 3), (11, 25, 1), (11, 25, 3), (10, 50, 1), (11, 5, 3))
    for (tasks, scenarios, cameras), kind, rate in itertools.product(suites, ("same", "mixed"), (0.1, 0.5, 0.8, 0.95)):
        if tasks == 1 and kind == "mixed":
            continue
        rates = task_rates(kind, rate, tasks)[None]
        for together in (0.0, 0.5, 1.0) if cameras > 1 else (0.0,):
            hits: dict[str, list[tuple[bool, float]]] = {}
            for _ in range(repetitions):
                outcomes = draw(generator, rates, scenarios, cameras, together)[0]
                sample = ClusteredSample.from_array(outcomes)
                pooled = mean_of_cells(np.bincount(sample.cell, sample.values), sample.cell_counts)
                unstratified, clustered = clustered_rate(sample, stratified=False), clustered_rate(sample)
                found = {
                    "every episode counts": (pooled.low, pooled.high),
                    "scenarios count": (unstratified.low, unstratified.high),
                    "scenarios count, tasks differ": (clustered.low, clustered.high),
                    "bootstrap": bootstrap_interval(outcomes, generator, count=400),
                }
                for name, (low, high) in found.items():
                    hits.setdefault(name, []).append((bool(covers(low, high, rates.mean())), high - low))
            for name, pairs in hits.items():
                yield {
                    "tasks": tasks,
                    "scenarios": scenarios,
                    "cameras": cameras,
                    "rates": kind,
                    "rate": rate,
                    "together": together,
                    "method": name,
                    "coverage": np.mean([hit for hit, _ in pairs]),
                    "width": np.mean([width for _, width in pairs]),
                    "repetitions": repetitions,
                }


def paired_cameras(generator: np.random.Generator) -> Rows:
    """A paired difference over tasks and cameras: by scenario, and as if every episode counted."""
    repetitions = 1000
    suites = ((1, 25, 3), (11, 25, 3), (10, 20, 1))
    for (tasks, scenarios, cameras), change, together in itertools.product(suites, (0.0, 0.1), (0.0, 0.5, 1.0)):
        if cameras == 1 and together:
            continue
        # Not so high that a rate would exceed 1.
        rates = np.stack([task_rates("mixed", 0.45, tasks), task_rates("mixed", 0.45, tasks) + change])
        results = []
        for _ in range(repetitions):
            old, new = draw(generator, rates, scenarios, cameras, together, agents=2)
            sample = ClusteredSample.from_array(new - old)
            alone = ClusteredSample(sample.values, sample.cell, np.arange(sample.n), sample.task)
            row = []
            for kind in (sample, alone):
                found = paired_difference(kind)
                row += [bool(covers(found.low, found.high, change)), found.p <= 0.05, found.high - found.low]
            results.append(row)
        mean = np.mean(results, axis=0)
        for name, numbers in (("by scenario", mean[:3]), ("every episode counts", mean[3:])):
            yield {
                "tasks": tasks,
                "scenarios": scenarios,
                "cameras": cameras,
                "difference": change,
                "together": together,
                "method": name,
                "coverage": numbers[0],
                "rejected": numbers[1],
                "width": numbers[2],
                "repetitions": repetitions,
            }


def power(generator: np.random.Generator) -> Rows:
    """The power that the planned number of pairs, or of episodes, has: 80 % is asked for."""
    repetitions = 20_000
    for difference, discordance in ((0.02, 0.05), (0.05, 0.05), (0.05, 0.1), (0.05, 0.3), (0.1, 0.2), (0.2, 0.4)):
        n = pairs_needed(difference, discordance)
        up, down = (discordance + difference) / 2, (discordance - difference) / 2
        only_b, only_a, _ = generator.multinomial(n, [up, down, 1 - discordance], repetitions).T
        found = np.mean(mcnemar_exact(only_a, only_b) <= 0.05)
        yield {
            "design": "paired",
            "difference": difference,
            "discordance": discordance,
            "rate": "",
            "n": n,
            "power": found,
        }
    from statsmodels.stats.proportion import test_proportions_2indep

    for difference, rate in ((0.05, 0.5), (0.05, 0.8), (0.1, 0.9), (0.2, 0.5)):
        n = episodes_needed(difference, rate)
        other = rate - difference if rate > 0.5 else rate + difference
        a, b = generator.binomial(n, rate, repetitions), generator.binomial(n, other, repetitions)
        found = np.mean(test_proportions_2indep(b, n, a, n, method="score", compare="diff").pvalue <= 0.05)
        yield {"design": "unpaired", "difference": difference, "discordance": "", "rate": rate, "n": n, "power": found}


def chains(generator: np.random.Generator) -> Rows:
    """CALVIN's average length: the bootstrap over chains."""
    repetitions = 1000
    for n, step in itertools.product((50, 200, 1000), (0.3, 0.6, 0.8, 0.95)):
        truth = sum(step**k for k in range(1, 6))
        hits = []
        for _ in range(repetitions):
            lengths = np.minimum(generator.geometric(1 - step, n) - 1, 5)
            low, high = chain_scores(lengths, generator, count=1000).average_interval
            hits.append(covers(low, high, truth))
        yield {"n": n, "rate_per_step": step, "coverage": np.mean(hits), "repetitions": repetitions}


def gate(generator: np.random.Generator) -> Rows:
    """Verdicts of the gate at margin 0.05 and alpha 0.05, by the loss that is true."""
    repetitions = 600
    suites = {"3 x 20": (3, 20, 1), "11 x 25": (11, 25, 1), "11 x 25 x 3": (11, 25, 3)}
    for (name, (tasks, scenarios, cameras)), mode in itertools.product(suites.items(), ("paired", "unpaired")):
        for rate, (what, lost) in itertools.product((0.95, 0.6), LOSSES.items()):
            if mode == "unpaired" and (rate == 0.95 or what == "one task -40" or cameras > 1):
                continue
            old_rates = np.full(tasks, rate)
            new_rates = old_rates - lost(tasks)
            together = 0.5 if cameras > 1 else 0.0
            answers = {"held": 0, "better": 0, "regression": 0, "underpowered": 0}
            for _ in range(repetitions):
                both = np.stack([old_rates, new_rates])
                old, new = draw(generator, both, scenarios, cameras, together, agents=2 if mode == "paired" else 1)
                if mode == "paired":
                    sample = ClusteredSample.from_array(new - old)
                    by_task = [sample.take(sample.task == t) for t in range(tasks)]
                    overall, *by_task = paired_evidence([sample, *by_task], 0.05)
                else:
                    before, after = ClusteredSample.from_array(old), ClusteredSample.from_array(new)
                    overall = independent_evidence(before, after, 0.05)
                    by_task = [
                        independent_evidence(before.take(before.task == t), after.take(after.task == t), 0.05)
                        for t in range(tasks)
                    ]
                answers[decide(overall, by_task, 0.05, 0.05).answer] += 1
            shares = {answer: count / repetitions for answer, count in answers.items()}
            yield {"suite": name, "mode": mode, "rate": rate, "loss": what, **shares, "repetitions": repetitions}


LOSSES: dict[str, Callable[[int], np.ndarray]] = {
    "none": lambda tasks: np.zeros(tasks),
    "all -5": lambda tasks: np.full(tasks, 0.05),
    "all -10": lambda tasks: np.full(tasks, 0.10),
    "all -20": lambda tasks: np.full(tasks, 0.20),
    "one task -40": lambda tasks: np.where(np.arange(tasks) == 0, 0.40, 0.0),
}


def sequential(generator: np.random.Generator) -> Rows:
    """Verdicts of the sequential gate, asked after every scenario, and when it stopped.

    Scenarios come task by task within rounds (`interleaved`), or all of one task after the other (`by task`).
    """
    repetitions, tasks, alpha = 400, 5, 0.05
    for (rate, scenarios), (what, lost), order, margin in itertools.product(
        ((0.95, 200), (0.6, 200)), LOSSES.items(), ("interleaved", "by task"), (0.05, 0.1)
    ):
        if order == "by task" and (what not in ("none", "all -10") or margin == 0.05):
            continue
        rates = np.stack([np.full(tasks, rate), rate - lost(tasks)])
        answers, stops = {"held": 0, "better": 0, "regression": 0, "underpowered": 0}, []
        for _ in range(repetitions):
            old, new = draw(generator, rates, scenarios, 1, 0.0, agents=2)
            change, task = (new - old)[..., 0], np.arange(tasks)[:, None].repeat(scenarios, 1)
            if order == "interleaved":
                change, task = change.T, task.T
            stop, answer = first_answer(change.ravel(), task.ravel(), tasks, margin, alpha)
            answers[answer] += 1
            stops.append(stop)
        yield {
            "rate": rate,
            "loss": what,
            "margin": margin,
            "order": order,
            "scenarios": tasks * scenarios,
            **{name: count / repetitions for name, count in answers.items()},
            "median_stop": np.median(stops),
            "repetitions": repetitions,
        }


def first_answer(changes: np.ndarray, tasks: np.ndarray, count: int, margin: float, alpha: float) -> tuple[int, str]:
    """Return when a sequential gate that is asked after every scenario first decides, and what.

    Its evidence only grows, so the first moment is found by bisection; a regression goes before "held" once both are in.
    """

    def answer(n: int) -> str:
        return decide_sequentially(changes[:n], tasks[:n], count, margin, alpha).answer

    low, high = 0, len(changes)
    if answer(high) == "underpowered":
        return high, "underpowered"
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if answer(middle) == "underpowered" else (low, middle)
    return high, answer(high)


PARTS: dict[str, Callable[..., Rows]] = {
    "single_rate": single_rate,
    "paired": paired,
    "unpaired": unpaired,
    "power": power,
    "chains": chains,
    "several_cameras": several_cameras,
    "paired_cameras": paired_cameras,
    "sequential": sequential,
    "gate": gate,
}
ENUMERATED = {"single_rate", "paired", "unpaired"}


def write(name: str) -> None:
    """Write one part's file; each part has its own seed, so that they can be made one by one."""
    rows = PARTS[name]() if name in ENUMERATED else PARTS[name](np.random.default_rng(list(name.encode())))
    rows = [{key: f"{value:.5g}" if isinstance(value, float) else value for key, value in row.items()} for row in rows]
    with (FOLDER / f"{name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"{name}: {len(rows)} rows", flush=True)


# --- Figures ------------------------------------------------------------------------------------------------------


def draw_figures() -> None:
    """Draw docs/statistics/*.svg from the files."""
    import matplotlib
    import pandas as pd

    matplotlib.use("Agg")
    # Equal input gives an equal file.
    matplotlib.rcParams.update({"svg.hashsalt": "flowbench", "font.size": 9, "axes.spines.top": False})
    matplotlib.rcParams.update({"axes.spines.right": False, "savefig.facecolor": "white"})
    from matplotlib import pyplot as plt

    def save(figure: Any, name: str) -> None:
        figure.savefig(FOLDER / f"{name}.svg", metadata={"Date": None})
        plt.close(figure)

    single = pd.read_csv(FOLDER / "single_rate.csv")
    figure, axes = plt.subplots(1, 3, figsize=(9, 2.8), sharey=True, layout="constrained")
    for axis, n in zip(axes, (25, 75, 500)):
        for name, group in single[single["n"] == n].groupby("method"):
            axis.plot(group["rate"], 100 * group["coverage"], label=name, marker=".", markersize=3, linewidth=1)
        axis.axhline(95, color="0.5", linewidth=0.8)
        axis.set(title=f"n = {n}", xlabel="true success rate")
    axes[0].set(ylabel="coverage of the 95 % interval")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    save(figure, "single_rate")

    cameras = pd.read_csv(FOLDER / "several_cameras.csv")
    cameras = cameras[(cameras["cameras"] == 3) & (cameras["tasks"] == 11) & (cameras["scenarios"] == 25)]
    figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
    for axis, kind in zip(axes, ("same", "mixed")):
        chosen = cameras[cameras["rates"] == kind].groupby(["method", "together"])["coverage"].mean().unstack(0)
        for name in chosen.columns:
            axis.plot(chosen.index, 100 * chosen[name], label=name, marker="o", markersize=4, linewidth=1)
        axis.axhline(95, color="0.5", linewidth=0.8)
        title = "tasks equally hard" if kind == "same" else "half of the tasks hard"
        axis.set(title=title, xlabel="share of scenarios whose three cameras end alike", ylim=(72, 101))
    axes[0].set(ylabel="coverage of the 95 % interval")
    axes[0].legend(frameon=False)
    save(figure, "several_cameras")

    verdicts = pd.read_csv(FOLDER / "gate.csv")
    verdicts = verdicts[verdicts["mode"] == "paired"]
    suites = list(dict.fromkeys(verdicts["suite"]))
    figure, axes = plt.subplots(2, len(suites), figsize=(9, 4.4), sharex=True, sharey=True, layout="constrained")
    colours = {"better": "#2a78b5", "held": "#7fb8da", "underpowered": "0.85", "regression": "#c8553d"}
    for (row, rate), (column, suite) in itertools.product(enumerate((0.95, 0.6)), enumerate(suites)):
        chosen = verdicts[(verdicts["suite"] == suite) & (verdicts["rate"] == rate)].set_index("loss")
        left = np.zeros(len(chosen))
        for answer, colour in colours.items():
            axes[row, column].barh(chosen.index, 100 * chosen[answer], left=left, color=colour, label=answer)
            left += 100 * chosen[answer].to_numpy()
        axes[row, column].set(title=f"{suite}, baseline {100 * rate:.0f} %")
        axes[row, column].invert_yaxis() if column == 0 and row == 0 else None
    figure.supxlabel("verdicts in %")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    save(figure, "gate")


def main() -> None:
    """Make what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", action="append", choices=list(PARTS), help="only this one; may be repeated")
    parser.add_argument("--figures", action="store_true", help="only draw the figures")
    arguments = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    if not arguments.figures:
        for name in arguments.part or PARTS:
            write(name)
    draw_figures()


if __name__ == "__main__":
    main()
