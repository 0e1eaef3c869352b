"""Chains of instructions: asked one after the other, recorded link by link, counted in tables, comparisons and gates."""

import json
from dataclasses import replace

import numpy as np
import pytest

from flowbench.agent import Needs
from flowbench.baseline import Baseline
from flowbench.compare import compare
from flowbench.env import EnvConfig, TaskEnv
from flowbench.envs.toy.simulator import ToySimulator
from flowbench.envs.toy.suite import TOY
from flowbench.errors import BadValue
from flowbench.gate import GateOptions, gate
from flowbench.layouts import get_layout
from flowbench.manifest import RunManifest
from flowbench.outcomes import RunOutcomes
from flowbench.paper_table import TableOptions, paper_table
from flowbench.result import ChainLink, EpisodeResult
from flowbench.rollout import rollout
from flowbench.simulator import StepOutcome
from flowbench.spec import AgentSpec, EpisodeSpec, EvalSpec
from flowbench.stats import wilson_interval
from flowbench.store import ResultStore
from flowbench.success import SuccessTracker
from flowbench.table_formats import to_csv, to_json
from flowbench.tables import RunSummary, aggregate
from flowbench.task import ProtocolRules, Scenario

# --- the environment and the agent, on a chain of three


class ChainToy(ToySimulator):
    """Three instructions; each is carried out when the hand has risen by 1 cm since it was given."""

    def reset(self, scenario):
        super().reset(scenario)
        self._given = 0
        self._from = self.state.hand[2]
        self.asked = self._task(0)

    def _task(self, number):
        return replace(TOY.task("push"), name=f"rise-{number}", instruction=f"rise, time {number}")

    def step(self, action):
        super().step(action)
        risen = self.state.hand[2] > self._from + 0.01
        return StepOutcome(float(risen), bool(risen))

    def ask_next(self):
        self._given += 1
        self._from = self.state.hand[2]
        self.asked = self._task(self._given)


RULES = ProtocolRules("three", horizon=4, chain=3)
SUITE = replace(TOY, simulator=f"{__name__}:ChainToy", protocols={"three": RULES})
EPISODE = EpisodeSpec("toy", "push", "front", Scenario(0))
UP, STAY = np.array([0.0, 0.0, 1.0, 0.0]), np.zeros(4)


def make_env(**config):
    return TaskEnv(SUITE, SUITE.task("push"), RULES, EnvConfig(cameras=(), modalities=(), **config))


class Rises:
    """Rises for as many instructions as it is told, in chunks, and remembers what it was asked."""

    needs = Needs()

    def __init__(self, willing=3, chunk=1):
        self.willing, self.chunk = willing, chunk
        self.resets, self.seen = [], []

    def reset(self, task, cameras, seed):
        self.resets.append((task.name, task.instruction, seed))

    def act(self, observation):
        self.seen.append(observation.instruction)
        move = UP if len(self.resets) <= self.willing else STAY
        return np.tile(move, (self.chunk, 1))


def steps_of(one):
    """Run an agent and return its result."""
    return rollout(make_env(lazy=True), one, EPISODE, agent_name="rises").result


def test_the_next_instruction_is_given_in_the_world_as_it_stands():
    env = make_env()
    _, info = env.reset(seed=0)
    assert (env.asked.name, info["instruction"], info["completed"]) == ("rise-0", "rise, time 0", 0)
    height = env.simulator.state.hand[2]
    while not info["completed"]:
        _, reward, terminated, truncated, info = env.step(UP)
    assert reward == 1 and not terminated and not truncated and not info["is_success"]
    assert env.instruction == info["instruction"] == "rise, time 1"
    assert env.simulator.state.hand[2] > height, "nothing was reset"


def test_an_agent_is_reset_for_each_instruction_and_drops_what_is_left_of_its_chunk():
    agent = Rises(chunk=4)
    result = steps_of(agent)
    assert [name for name, _, _ in agent.resets] == ["rise-0", "rise-1", "rise-2"]
    assert agent.seen == ["rise, time 0", "rise, time 1", "rise, time 2"], "one look per instruction"
    assert result.agent_calls == 3
    seeds = [seed for *_, seed in agent.resets]
    assert seeds[0] == EPISODE.agent_seed and len(set(seeds)) == 3
    assert result.status == "success" and result.completed == 3 and result.first_success == result.steps
    assert [link.success for link in result.chain] == [True] * 3
    assert sum(link.steps for link in result.chain) == result.steps and result.total_reward == 3


def test_each_instruction_has_the_whole_horizon_and_the_first_that_fails_ends_the_chain():
    result = steps_of(Rises(willing=1))
    assert (result.status, result.completed, result.first_success) == ("failure", 1, None)
    assert result.chain[0].success and result.chain[1] == ChainLink("rise-1", False, 4)
    assert result.steps == result.chain[0].steps + 4


def test_an_error_in_the_middle_keeps_what_was_done():
    class Breaks(Rises):
        def act(self, observation):
            if len(self.resets) == 2:
                raise RuntimeError("no idea")
            return super().act(observation)

    result = steps_of(Breaks())
    assert result.status == "error" and result.completed == 1 and "no idea" in result.error


def test_a_state_within_a_chain_can_be_gone_back_to():
    tracker = SuccessTracker.of(RULES)
    for success in (False, True, False):
        tracker = tracker.update(success)
    assert (tracker.completed, tracker.since, tracker.steps) == (1, 2, 3)
    assert not tracker.succeeded and not tracker.out_of_time
    for _ in range(3):
        tracker = tracker.update(False)
    assert tracker.out_of_time and not tracker.ended
    done = SuccessTracker.of(RULES).update(True).update(True).update(True)
    assert done.ended and done.succeeded and done.update(False) == done


# --- stored, counted, compared


def write_chains(folder, lengths, *, suite="calvin-abc-d", errors=(), agent="mine", seed=0):
    """Store a run of chains of five with these lengths, one per initial state."""
    spec = EvalSpec(suite, "exact", AgentSpec(agent), ("chain",), ("static",), (0,), tuple(range(len(lengths))))
    manifest = RunManifest.collect(
        spec, command=f"flowbench eval --agent {agent}", privileged=False, modalities=("rgb",)
    )
    with ResultStore.open(folder, manifest) as store:
        for episode, length in zip(spec.episodes(), lengths, strict=True):
            tasks = ("open_drawer", "turn_on_led", "stack_block", "unstack_block", "close_drawer")
            links = [ChainLink(task, True, 50) for task in tasks[:length]]
            broken = episode.scenario.init_state in errors
            if length < 5 and not broken:
                links.append(ChainLink(tasks[length], False, 360))
            status = "error" if broken else "success" if length == 5 else "failure"
            store.append(
                EpisodeResult.of(
                    episode,
                    protocol="exact",
                    agent=agent,
                    privileged=False,
                    status=status,
                    steps=sum(x.steps for x in links),
                    first_success=None,
                    total_reward=float(length),
                    seconds=1.0,
                    agent_seconds=0.5,
                    agent_calls=10,
                    error="it broke" if broken else None,
                    chain=tuple(links),
                )  # fmt: skip
            )
    return folder


LENGTHS = [5, 5, 3, 0, 2, 5, 4, 5, 1, 5]


def test_a_stored_chain_is_read_back_link_by_link(tmp_path):
    folder = write_chains(tmp_path / "a", LENGTHS)
    results = ResultStore.read(folder).results
    assert [result.completed for result in results] == LENGTHS
    assert results[2].chain[-1] == ChainLink("unstack_block", False, 360)
    line = json.loads((folder / "episodes.jsonl").read_text().splitlines()[2])
    assert line["chain"][0] == ["open_drawer", True, 50]


def test_results_without_chains_are_stored_as_before(tmp_path, write_run):
    assert '"chain"' not in (write_run("toy") / "episodes.jsonl").read_text()


def test_the_table_has_the_five_rates_the_average_length_and_every_instruction(tmp_path):
    table = aggregate([RunSummary.read(write_chains(tmp_path / "a", LENGTHS))])
    rows = {row.task: row.scores[0] for row in table.rows}
    assert list(rows)[:6] == [*(f"{count} in a row" for count in range(1, 6)), "average length"]
    assert [round(rows[f"{count} in a row"].rate, 3) for count in range(1, 6)] == [0.9, 0.8, 0.7, 0.6, 0.5]
    assert (rows["3 in a row"].low, rows["3 in a row"].high) == tuple(map(float, wilson_interval(7, 10)))
    average = rows["average length"]
    assert average.rate == pytest.approx(3.5) and average.low < 3.5 < average.high and average.text.startswith("3.50 [")
    # Given nine times after the first, which failed once.
    assert (rows["turn_on_led"].successes, rows["turn_on_led"].n) == (8, 9)
    assert (rows["open_drawer"].successes, rows["open_drawer"].n) == (9, 10)
    text = to_csv(table, "x")
    header = next(line for line in text.splitlines() if not line.startswith("#")).split(",")
    assert {"average_length", "average_length_ci95_low"} <= set(header)
    lengths = [row["average_length"] for row in json.loads(to_json(table, "x"))["rows"]]
    assert [value for value in lengths if value is not None] == [pytest.approx(3.5)]


def test_an_interval_of_the_average_length_is_the_same_every_time_and_covers_whole_chains(tmp_path):
    one = RunSummary.read(write_chains(tmp_path / "a", LENGTHS))
    first, again = (aggregate([one]).rows[5].scores[0] for _ in range(2))
    assert (first.low, first.high) == (again.low, again.high)
    # Chains vary more than five independent instructions would.
    assert first.high - first.low > 2


def test_chains_that_broke_off_are_left_out_or_count_as_far_as_they_went(tmp_path):
    run = RunSummary.read(write_chains(tmp_path / "a", LENGTHS, errors=(2, 3)))
    out = {row.task: row.scores[0] for row in aggregate([run]).rows}
    assert out["average length"].n == 8 and out["average length"].errors == 2
    assert out["average length"].rate == pytest.approx((sum(LENGTHS) - 3) / 8)
    kept = {row.task: row.scores[0] for row in aggregate([run], errors="failure").rows}
    assert kept["average length"].n == 10 and kept["average length"].rate == pytest.approx(3.5)


def test_runs_without_chains_have_no_such_rows(write_run):
    run = RunSummary.read(write_run("toy"))
    assert run.chains is None
    with pytest.raises(BadValue, match="--by chain is for runs whose episodes are chains of instructions"):
        aggregate([run], ["chain"])


def test_the_layout_of_visaflow_is_filled(tmp_path):
    folder = write_chains(tmp_path / "a", LENGTHS)
    table = paper_table(get_layout("visaflow-calvin"), [RunSummary.read(folder)], TableOptions())
    (heading, (row,)) = table.blocks[0]
    assert [score.text.split()[0] for score in row.scores] == ["90.0", "80.0", "70.0", "60.0", "50.0", "3.50"]
    assert heading == "Run with FlowBench" and row.setting == "exact, static"
    records = [record for record in table.sheet.records if record["kind"] == "run"]
    assert records[5]["average_length"] == pytest.approx(3.5) and records[5]["success_rate"] is None
    assert records[0]["success_rate"] == pytest.approx(0.9) and records[0]["average_length"] is None
    with pytest.raises(BadValue, match="is a run of suite calvin-d-d; layout visaflow-calvin shows calvin-abc-d"):
        other = write_chains(tmp_path / "d", LENGTHS, suite="calvin-d-d")
        paper_table(get_layout("visaflow-calvin"), [RunSummary.read(other)])


def test_a_comparison_counts_chains_and_not_their_five_rungs(tmp_path):
    rng = np.random.default_rng(0)
    before = rng.integers(0, 5, 60)
    after = np.minimum(before + rng.integers(0, 2, 60), 5)
    a = RunOutcomes.read(write_chains(tmp_path / "a", before.tolist()))
    b = RunOutcomes.read(write_chains(tmp_path / "b", after.tolist(), agent="other"))
    found = compare(a, b)
    # The mean over the rungs is the average length as a share of five.
    assert found.overall.difference.estimate == pytest.approx((after.mean() - before.mean()) / 5)
    assert found.overall.counts.n == 300 and found.decision == "better"
    assert any("which is the average length as a share of the whole chain" in note for note in found.notes)
    assert found.flips[0].id.startswith("calvin-abc-d/chain@static/i")
    # Four chains that all went from nothing to everything are four observations, not twenty.
    nothing = RunOutcomes.read(write_chains(tmp_path / "c", [0] * 4))
    everything = RunOutcomes.read(write_chains(tmp_path / "d", [5] * 4))
    few = compare(nothing, everything).overall
    assert few.difference.p == pytest.approx(2 * 0.5**4) and few.difference.design_effect == pytest.approx(5)


def test_a_gate_holds_the_average_length(tmp_path):
    steady = write_chains(tmp_path / "a", [5, 4, 5, 3] * 40)
    baseline = Baseline.of([RunOutcomes.read(steady)])
    same = gate([RunOutcomes.read(write_chains(tmp_path / "b", [5, 4, 5, 3] * 40))], baseline)
    assert same.verdict == "held"
    worse = gate([RunOutcomes.read(write_chains(tmp_path / "c", [3, 2, 3, 1] * 40))], baseline)
    assert worse.verdict == "regression" and worse.overall.evidence.estimate == pytest.approx(-0.4)
    assert any("tests count chains" in note for note in worse.notes)
    again = Baseline.read(_written(tmp_path / "baseline.json", baseline))
    assert gate([RunOutcomes.read(steady)], again, GateOptions(mode="exact")).verdict == "held"


def _written(path, baseline):
    path.write_text(baseline.to_json())
    return path


def test_an_unfinished_run_of_chains_says_how_many_chains_are_missing(tmp_path):
    folder = write_chains(tmp_path / "a", LENGTHS)
    lines = (folder / "episodes.jsonl").read_text().splitlines(keepends=True)
    (folder / "episodes.jsonl").write_text("".join(lines[:7]))
    assert RunOutcomes.read(folder).missing == 3
    assert {row.scores[0].missing for row in aggregate([RunSummary.read(folder)], ["chain"]).rows} == {3}
