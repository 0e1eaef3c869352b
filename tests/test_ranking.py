"""Ranking several runs: the pairs, the set that may be the best, and what a reader is told."""

import json
import re
from itertools import combinations

import numpy as np
import pytest
from click.testing import CliRunner

from flowbench.cli.compare import compare as command
from flowbench.compare import compare
from flowbench.errors import BadValue
from flowbench.outcomes import RunOutcomes
from flowbench.ranking import rank
from flowbench.stats import holm
from flowbench.table_formats import FORMATS

SEEDS = tuple(range(40))


def first(count):
    """An outcome: success on the first seeds."""
    return lambda episode: "success" if episode.scenario.seed < count else "failure"


@pytest.fixture
def write_one(write_run):
    """Write and read a run of 40 seeds from one camera."""

    def write(name, outcome, **changes):
        folder = write_run(name, outcome, **{"cameras": ("front",), "seeds": SEEDS, "agent": name, **changes})
        return RunOutcomes.read(folder)

    return write


@pytest.fixture
def four(write_one):
    """Two good agents that hardly differ, a worse one and a bad one."""
    return [
        write_one("bad", first(4)),
        write_one("good", first(38)),
        write_one("worse", first(20)),
        write_one("near", first(37)),
    ]


def test_runs_stand_in_the_order_of_their_rates(four):
    found = rank(four)
    assert [run.label for run in found.runs] == ["good", "near", "worse", "bad"]
    assert [rate.mean for rate in found.rates] == pytest.approx([38 / 40, 37 / 40, 20 / 40, 4 / 40])


def test_those_that_cannot_be_told_apart_from_the_best_are_named(four):
    found = rank(four)
    assert found.candidates == (True, True, False, False)
    assert (
        found.verdict == "A (good) and B (near) cannot be told apart from the best, on 80 episodes that all runs have."
    )


def test_one_that_beats_all_others_is_named_alone(four):
    found = rank([four[0], four[1], four[2]])
    assert found.verdict == "A (good) is better than every other run, on 80 episodes that all runs have."


def test_every_pair_is_that_of_a_comparison_of_two_with_holm_over_all(four):
    found = rank(four)
    assert [(pair.a, pair.b) for pair in found.pairs] == list(combinations(range(4), 2))
    for pair in found.pairs:
        alone = compare(found.runs[pair.a], found.runs[pair.b]).overall.difference
        assert pair.difference == pytest.approx(alone)
        assert pair.difference.estimate <= 0, "the other one is not better"
    adjusted = holm([pair.difference.p for pair in found.pairs])
    np.testing.assert_allclose([pair.adjusted_p for pair in found.pairs], adjusted)


def test_cameras_that_repeat_an_episode_add_no_evidence(write_run):
    def runs(*cameras):
        names = [f"{name}-{len(cameras)}" for name in ("a", "b", "c")]
        outcomes = [first(count) for count in (30, 24, 10)]
        return [
            RunOutcomes.read(write_run(name, outcome, cameras=cameras, seeds=SEEDS))
            for name, outcome in zip(names, outcomes)
        ]

    one, two = rank(runs("front")), rank(runs("front", "side"))
    assert two.candidates == one.candidates
    for a, b in zip(one.pairs, two.pairs):
        assert a.difference[:4] == pytest.approx(b.difference[:4])


def test_only_episodes_that_all_runs_have_are_compared(write_one):
    whole, part = write_one("a", first(30)), write_one("b", first(10), seeds=SEEDS[:20])
    broken = write_one("c", lambda e: "error" if e.scenario.seed == 0 else "failure")
    found = rank([whole, part, broken])
    assert found.n == 2 * 19
    notes = " ".join(found.notes)
    assert f"Error episodes, left out, with their partners: 2 in {broken.name}." in notes
    assert f"left out: 42 of {whole.name}, 2 of {part.name}, 42 of {broken.name}." in notes
    assert rank([whole, part, broken], errors="failure").n == 2 * 20


def test_privileged_runs_are_marked(write_one):
    expert = write_one("expert", first(40), privileged=True)
    found = rank([expert, write_one("a", first(30)), write_one("b", first(29))])
    assert found.verdict.startswith("A (expert, privileged) is better than every other run")
    assert f"Privileged, because the agent reads the simulator's state: {expert.name}." in found.notes


def test_runs_that_cannot_be_compared_are_refused(four, write_one):
    other = write_one("other", first(3), max_steps=9)
    with pytest.raises(BadValue, match=r"not comparable: max_steps: .*Evaluate all under the same rules"):
        rank([*four[:2], other])
    assert "Compared on request" in " ".join(rank([*four[:2], other], allow_different=True).notes)
    with pytest.raises(BadValue, match="is given twice"):
        rank([four[0], four[1], four[0]])
    elsewhere = write_one("elsewhere", first(50), seeds=tuple(range(40, 60)))
    with pytest.raises(BadValue, match="The runs have no episode in common"):
        rank([*four[:2], elsewhere])
    with pytest.raises(BadValue, match="--alpha is 5; give a number between 0 and 1"):
        rank(four, alpha=5)


@pytest.mark.parametrize("format_", FORMATS)
def test_every_format_shows_it(four, format_):
    text = FORMATS[format_](rank(four), "flowbench compare")
    assert re.search("good.*near|near.*good", text, re.S)


def test_the_command_ranks_more_than_two(four, tmp_path):
    names = [run.name for run in four]
    ran = CliRunner().invoke(command, [*names, "--format", "json"])
    assert ran.exit_code == 0, ran.output
    data = json.loads(ran.output)
    assert data["verdict"]["candidates"] == [four[1].name, four[3].name]
    assert len(data["rows"]) == 6
    table = CliRunner().invoke(command, names).output
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    assert [line.split("|")[4].strip() for line in lines[1:]] == ["yes", "yes", "no", "no"]
