"""Actions that are one of a few, and episodes that end when the agent says so: the whole way, without a simulator."""

from dataclasses import replace
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest

from flowbench import registry
from flowbench.agents.controls import DoneAtOnceAgent, RandomAgent, ZeroAgent
from flowbench.data.collect import CollectOptions, collect
from flowbench.data.collect_spec import CollectSpec
from flowbench.data.readers.flowbench_hdf5 import FlowBenchHdf5
from flowbench.data.replay import Replayer
from flowbench.env import EnvConfig, TaskEnv
from flowbench.envs.toy.simulator import ToySimulator
from flowbench.envs.toy.suite import TOY
from flowbench.errors import ActionError, AgentError, BadValue
from flowbench.evaluate import EvalOptions, evaluate
from flowbench.spec import AgentSpec, EvalSpec
from flowbench.success import SuccessTracker
from flowbench.task import ActionSpec, Scenario
from flowbench.testing import ContractViolation, check_agent, check_suite

CHOICES = ("Left", "Right", "Done")
SPEC = ActionSpec.choice("toy-steps", CHOICES)
MOVES = {"Left": (-1.0, 0, 0, -1), "Right": (1.0, 0, 0, -1), "Done": (0, 0, 0, -1.0)}


class StepsSimulator(ToySimulator):
    """The toy's reaching task in steps to the left and to the right; it is solved on the right."""

    def __init__(self, task, rules, render):
        super().__init__(task, rules, render)
        self.settle_action = np.array([2.0])

    def step(self, action):
        name = CHOICES[int(action[0])]
        outcome = super().step(np.array(MOVES[name]))
        return outcome._replace(success=self.state.hand_x > 0.06, over=name == "Done")


STEPS = replace(
    TOY,
    name="toy-steps",
    tasks=(replace(TOY.task("reach"), suite="toy-steps", action_spec=SPEC),),
    protocols={"default": replace(TOY.rules(), success_rule="at_end", horizon=12)},
    simulator=f"{__name__}:StepsSimulator",
)


class GoesRight:
    """Goes right three times in one chunk, then says that it has finished, in a bare number."""

    needs = RandomAgent.needs

    def reset(self, task, cameras, seed):
        self.asked = 0

    def act(self, observation):
        self.asked += 1
        return np.array([[1], [1], [1]]) if self.asked == 1 else np.int64(2)


@pytest.fixture
def installed(monkeypatch):
    """Let the suite be found by name."""
    entries_of = registry.entries_of

    def with_steps(group):
        entry = SimpleNamespace(load=lambda: STEPS, value="here")
        return {**entries_of(group), **({"toy-steps": entry} if group == registry.SUITE_GROUP else {})}

    monkeypatch.setattr(registry, "entries_of", with_steps)
    yield
    registry.get_suite.cache_clear()


# --- the action spec


@pytest.mark.parametrize("action", [2, 2.0, np.int64(2), np.array(2), [2], np.array([2.0]), np.array([2], np.uint8)])
def test_a_choice_is_a_number_or_one_component(action):
    assert SPEC.validate(action).tolist() == [2.0]


@pytest.mark.parametrize("action", [1.5, [0.25], np.nan, np.inf, 3, -1, [0, 1], [[1]], "Left"])
def test_anything_else_is_refused_with_what_the_numbers_mean(action):
    with pytest.raises(ActionError) as caught:
        SPEC.validate(action)
    if action in (1.5, "Left"):
        assert "one of 0 (Left), 1 (Right), 2 (Done) of convention toy-steps" in str(caught.value)


def test_clipping_never_makes_a_choice():
    with pytest.raises(ActionError, match=r"is 1.5; expected one of 0 \(Left\)"):
        SPEC.validate(1.5, clip=True)
    assert SPEC.validate(7, clip=True).tolist() == [2.0]


def test_samples_are_whole_and_every_choice_comes():
    drawn = SPEC.sample(np.random.default_rng(0), 200)
    assert drawn.shape == (200, 1) and set(drawn.ravel()) == {0.0, 1.0, 2.0}


def test_samples_of_a_box_are_the_draws_that_random_agents_always_made():
    spec = TOY.tasks[0].action_spec
    expected = np.random.default_rng(3).uniform(spec.low, spec.high)
    np.testing.assert_array_equal(spec.sample(np.random.default_rng(3), 1)[0], expected)


# --- the success rule


def follow(*steps):
    tracker = SuccessTracker("at_end", horizon=4)
    for success, over in steps:
        tracker = tracker.update(success, over)
    return tracker


def test_what_counts_is_the_moment_in_which_the_agent_says_so():
    assert follow((False, False), (True, True)).succeeded
    lost_again = follow((True, False), (False, True))
    assert lost_again.ended and not lost_again.succeeded and lost_again.first_success == 1


def test_without_a_word_what_counts_is_the_last_step():
    in_time, too_late = follow(*4 * [(True, False)]), follow(*3 * [(True, False)], (False, False))
    assert in_time.succeeded and in_time.out_of_time and not in_time.ended
    assert too_late.out_of_time and not too_late.succeeded


def test_having_succeeded_in_passing_is_not_success_yet():
    assert not follow((True, False)).succeeded


# --- the whole way


def test_the_contracts_hold_for_a_suite_and_agents_of_choices():
    check_suite(STEPS, cameras=("front",))
    for agent in (RandomAgent, ZeroAgent, DoneAtOnceAgent, GoesRight):
        check_agent(agent, suite=STEPS)


def test_gymnasium_sees_a_discrete_space_and_its_samples_can_be_stepped():
    env = TaskEnv(STEPS, STEPS.tasks[0], STEPS.rules(), EnvConfig(cameras=("front",), modalities=()))
    assert env.action_space == gymnasium.spaces.Discrete(3)
    env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(5):
        env.step(env.action_space.sample())


def test_saying_at_once_that_one_has_finished_needs_a_word_for_it():
    with pytest.raises(AgentError, match=r"No action of suite toy says that the agent has finished.*see: zero"):
        DoneAtOnceAgent().reset(TOY.tasks[0], {}, 0)
    with pytest.raises(ContractViolation, match="No action of suite toy says"):
        check_agent(DoneAtOnceAgent)


def test_evaluations_store_how_each_episode_ended(installed, tmp_path):
    spec = EvalSpec("toy-steps", "default", AgentSpec(f"{__file__}:GoesRight"), ("reach",), ("front",), tuple(range(8)))
    run = evaluate(spec, tmp_path / "run", EvalOptions(workers=0, progress=False))
    assert {result.status for result in run.results} == {"success", "failure"}
    assert all(result.steps == 4 and result.agent_calls == 2 for result in run.results)


def test_demonstrations_of_choices_are_kept_replayed_and_varied_by_random_starts_only(installed, tmp_path):
    spec = CollectSpec(
        suite="toy-steps", protocol="default", agent=AgentSpec(f"{__file__}:GoesRight"), tasks=("reach",), cameras=(),
        seeds=tuple(range(10_000, 10_010)), demonstrations=2, max_attempts=10, start_noise=2,
    )  # fmt: skip
    collect(spec, tmp_path / "d.h5", CollectOptions(workers=0, progress=False))
    with FlowBenchHdf5(tmp_path / "d.h5") as reader:
        assert reader.read(0, "actions", slice(None)).tolist() == [[1.0], [1.0], [1.0], [2.0]]
        replayer = Replayer(reader, pictures=False)
        replays = [replayer.replay(demo) for demo in range(2)]
        replayer.close()
    assert all(replay.success and replay.states == "equal" for replay in replays)
    with pytest.raises(
        BadValue, match=r"--action-noise is for motions, and actions of suite toy-steps are one of a few"
    ):
        replace(spec, action_noise=0.1).check()


def test_scenarios_still_say_where_an_episode_starts():
    env = TaskEnv(STEPS, STEPS.tasks[0], STEPS.rules(), EnvConfig(cameras=(), modalities=()))
    env.reset(options={"scenario": Scenario(4)})
    _, reward, terminated, truncated, info = env.step(2)
    assert terminated and not truncated and info["is_success"] == info["success_now"]
