"""What agents count themselves is stored, tabled and exported."""

import pytest

from flowbench.agents.controls import ZeroAgent
from flowbench.errors import BadValue, UnknownName
from flowbench.evaluate import EvalOptions, evaluate
from flowbench.export import episode_frame
from flowbench.metric_table import with_metrics
from flowbench.spec import AgentSpec, EvalSpec
from flowbench.store import EPISODES_NAME, ResultStore
from flowbench.table_formats import to_csv, to_markdown
from flowbench.tables import RunSummary, aggregate


class Counting(ZeroAgent):
    """Counts its steps, and how often it was reset."""

    resets = 0

    def reset(self, task, cameras, seed):
        super().reset(task, cameras, seed)
        self.resets, self.steps = self.resets + 1, 0

    def act(self, observation):
        self.steps += 1
        return super().act(observation)

    def episode_metrics(self):
        return {"looks": self.steps, "task_length": 10 * self.steps}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("metrics")
    made = {}
    for name, agent in (("counting", Counting), ("zero", ZeroAgent)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("flowbench.runner.make_agent", lambda *args, agent=agent, **kwargs: agent())
            spec = EvalSpec("toy", "default", AgentSpec(name), ("reach", "push"), ("front",), (0, 1), max_steps=3)
            patch.setattr("flowbench.registry.agent_class", lambda name, agent=agent: agent)
            evaluate(spec, folder / name, EvalOptions(workers=0, progress=False))
        made[name] = folder / name
    return made


def test_metrics_are_stored_with_the_episode_and_nothing_where_there_are_none(runs):
    results = ResultStore.read(runs["counting"]).results
    assert [dict(result.metrics) for result in results] == [{"looks": 3.0, "task_length": 30.0}] * 4
    assert b"metrics" not in (runs["zero"] / EPISODES_NAME).read_bytes()
    assert all(result.metrics == {} for result in ResultStore.read(runs["zero"]).results)


def test_a_table_shows_their_means_beside_the_score(runs):
    summaries = [RunSummary.read(runs[name]) for name in ("counting", "zero")]
    table = with_metrics(aggregate(summaries), summaries, ["looks"])
    text = to_markdown(table, "flowbench table")
    line = next(line for line in text.splitlines() if line.startswith("| overall"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[-5:][0] == "3.00" and cells[-1] == "-"
    assert "looks: means per finished episode, as the agent counted them" in text
    every = with_metrics(aggregate(summaries), summaries, ["all"])
    assert every.names == ("looks", "task_length")
    rows = [row for row in to_csv(every, "x").splitlines() if not row.startswith("#")]
    assert rows[0].endswith(",looks,task_length") and rows[1].endswith(",3.0,30.0") and rows[2].endswith(",,")


def test_metrics_that_nobody_counted_are_named(runs):
    summaries = [RunSummary.read(runs["counting"])]
    with pytest.raises(UnknownName, match="This table has no metric 'look'. Did you mean 'looks'?"):
        with_metrics(aggregate(summaries), summaries, ["look"])
    zero = [RunSummary.read(runs["zero"])]
    with pytest.raises(BadValue, match="No episode of these runs has metrics: their agents count nothing."):
        with_metrics(aggregate(zero), zero, ["all"])


def test_they_are_exported_as_numbers(runs):
    frame = episode_frame(ResultStore.read(runs["counting"]))
    assert frame["metric_looks"].tolist() == [3.0] * 4 and str(frame["metric_looks"].dtype) == "Float64"
    assert not [name for name in episode_frame(ResultStore.read(runs["zero"])).columns if name.startswith("metric")]
