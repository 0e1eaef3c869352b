"""Every registered agent keeps the contract on the toy suite, and every broken promise is named."""

import random
from dataclasses import replace

import numpy as np
import pytest

from flowbench.agent import Needs
from flowbench.agents.controls import RandomAgent, ZeroAgent
from flowbench.agents.scripted import EXPERTS, ScriptedAgent
from flowbench.envs.toy.suite import TOY
from flowbench.errors import AgentError, BadValue, FlowBenchError, MissingExtra
from flowbench.registry import agent_names, get_suite, make_agent
from flowbench.testing import ContractViolation, check_agent

ALL = ("rgb", "depth", "segmentation", "calibration")


@pytest.mark.parametrize("task", [task.name for task in TOY.tasks])
# An agent that only says that it has finished needs an action for it: tests/test_choices.py.
@pytest.mark.parametrize("name", [name for name in agent_names() if name != "done-at-once"])
def test_every_registered_agent_keeps_the_contract(name, task):
    try:
        make_agent(name, {})
    except (BadValue, MissingExtra) as reason:
        pytest.skip(f"agent {name} cannot be built without more: {reason}")
    check_agent(name, task=task)


# --- agents that are fine


class Looks:
    """Reads everything, answers in chunks, and draws from its own generator."""

    needs = Needs(modalities=ALL, extra_cameras=("wrist",), image_size=(64, 48), image_view="policy")

    def reset(self, task, cameras, seed):
        assert list(cameras) == ["front", "wrist"]
        self.rng = np.random.default_rng(seed)

    def act(self, observation):
        assert observation.rgb().shape == (48, 64, 3)
        brightness = sum(float(observation[key].mean()) for key in observation) % 1
        return self.rng.uniform(-1, 1, (3, 4)) * brightness


class ListAgent(ZeroAgent):
    def act(self, observation):
        return [0, 0, 0, 0]


@pytest.mark.parametrize(
    "agent", [Looks, Looks(), lambda: Looks(), ListAgent], ids=["class", "agent", "factory", "list"]
)
def test_a_good_agent_passes_in_every_form(agent):
    check_agent(agent, task="push")
    check_agent(agent, task="push", steps=60)


# --- agents that break one promise each


class Base:
    needs = Needs()

    def reset(self, task, cameras, seed):
        self.rng = np.random.default_rng(seed)
        self.count = 0

    def act(self, observation):
        return np.zeros(4)


def answering(value):
    class Answering(Base):
        def act(self, observation):
            return value() if callable(value) else value

    return Answering


class Unseeded(Base):
    def reset(self, task, cameras, seed):
        self.rng = np.random.default_rng()

    def act(self, observation):
        return self.rng.uniform(-1, 1, 4)


class SeededOnce(Base):
    def __init__(self):
        self.rng = np.random.default_rng(0)

    def reset(self, task, cameras, seed):
        pass

    def act(self, observation):
        return self.rng.uniform(-1, 1, 4)


class GlobalNumpy(Base):
    def act(self, observation):
        return np.random.uniform(-1, 1, 4)  # noqa: NPY002


class SeedsGlobalNumpy(Base):
    def reset(self, task, cameras, seed):
        np.random.seed(seed)  # noqa: NPY002


class GlobalRandom(Base):
    def act(self, observation):
        return np.full(4, random.uniform(-1, 1))


class ChangesTheImage(Base):
    needs = Needs(modalities=("rgb",))

    def act(self, observation):
        image = observation.rgb()
        image //= 2
        return np.zeros(4)


class ReadsDepth(Base):
    needs = Needs(modalities=("rgb",))

    def act(self, observation):
        return np.full(4, observation.depth_m().mean() * 0)


class ReadsTheSimulator(Base):
    def act(self, observation):
        return np.full(4, observation.simulator.state.hand_x)


class SharesItsGenerator(Base):
    shared = np.random.default_rng(0)

    def reset(self, task, cameras, seed):
        type(self).shared = np.random.default_rng(seed)

    def act(self, observation):
        return type(self).shared.uniform(-1, 1, 4)


class RandomWeights(Base):
    def __init__(self):
        self.weights = np.random.default_rng().uniform(-1, 1, 4)

    def act(self, observation):
        return self.weights


class KeepsItsQueue(Base):
    """Its first reset fills a queue that a reset in mid-episode does not empty."""

    queue: list = []

    def reset(self, task, cameras, seed):
        self.queue = [*self.queue[:3], *np.linspace(-1, 1, 4)]

    def act(self, observation):
        return np.full(4, self.queue.pop(0) if len(self.queue) > 1 else 0.0)


class ChangesItsNeeds(Base):
    def reset(self, task, cameras, seed):
        self.needs = Needs(modalities=("rgb",))


class NoReset:
    needs = Needs()

    def act(self, observation):
        return np.zeros(4)


def needing(**needs):
    class Needing(Base):
        pass

    Needing.needs = Needs(**needs)
    return Needing


class DictNeeds(Base):
    needs = {"modalities": ("rgb",)}


BROKEN = {
    "no reset": (
        NoReset,
        "it has no 'reset'. An agent has `needs`, `reset(task, cameras, seed)` and `act(observation)`.",
    ),
    "needs of the wrong type": (DictNeeds, "expected flowbench.Needs(...), even when it is empty."),
    "modalities as a string": (
        needing(modalities="rgb"),
        "needs.modalities is 'rgb'; expected a tuple of names, e.g. ('rgb',).",
    ),
    "unknown modality": (
        needing(modalities=("normals",)),
        "needs.modalities has 'normals', which is not a modality. Choose from rgb, depth, segmentation, calibration, flow.",
    ),
    "unknown camera": (
        needing(extra_cameras=("corner",)),
        "needs.extra_cameras has 'corner'; suite toy has front, side, wrist. Check it on a suite that has that camera.",
    ),
    "bad image size": (needing(image_size=(1, 1)), "its needs cannot be met: image_size is (1, 1)"),
    "bad image view": (needing(image_view="mirrored"), "its needs cannot be met: There is no image view 'mirrored'."),
    "other convention": (
        needing(action_convention="libero-osc-pose"),
        "needs.action_convention is 'libero-osc-pose' and suite toy takes 'toy-xyz-gripper'. Check it on a suite of its",
    ),
    "needs that change": (
        ChangesItsNeeds,
        "`reset` changed its needs. Declare them once, in the class or constructor.",
    ),
    "short action": (
        answering(np.zeros(3)),
        "the action of its call 1 has shape (3,); expected (4,) = (dx, dy, dz, gripper)",
    ),
    "short chunk": (answering(np.zeros((2, 3))), "the action of its call 1 has shape (3,); expected (4,)"),
    "empty chunk": (
        answering(np.zeros((0, 4))),
        "`act` returned shape (0, 4); expected one action (4,) or a chunk (T, 4) with",
    ),
    "scalar": (answering(0.0), "`act` returned shape (); expected one action (4,) or a chunk (T, 4) with T >= 1."),
    "nothing": (answering(None), "`act` returned shape (); expected one action (4,)"),
    "text": (answering("left"), "`act` returned str, which is no numeric array. Return a numpy array; detach tensors"),
    "not finite": (
        answering(np.array([0, np.nan, 0, 0])),
        "the action of its call 1 has dy = nan; every component must be",
    ),
    "out of range": (
        answering(np.array([0, 0, 2.0, 0])),
        "the action of its call 1 has dz = 2, outside [-1, 1]; return it in",
    ),
    "unseeded": (
        Unseeded,
        "the same seed gave other actions in the same scenario. Reset everything in `reset`, and draw all",
    ),
    "seeded once": (SeededOnce, "the same seed gave other actions in the same scenario."),
    "numpy's global generator": (
        GlobalNumpy,
        "`act` draws from numpy's global generator or seeds it. Use a generator of your",
    ),
    "seeding numpy's global": (SeedsGlobalNumpy, "`reset` draws from numpy's global generator or seeds it."),
    "python's global generator": (GlobalRandom, "`act` draws from Python's global `random` or seeds it."),
    "changed observation": (
        ChangesTheImage,
        "it changed front/rgb of the observation it was given. Copy an array before working in place.",
    ),
    "undeclared modality": (ReadsDepth, "`act` failed: This observation has no key 'front/depth'."),
    "undeclared privilege": (ReadsTheSimulator, "did not declare it. Set `needs = Needs(privileged=True)`"),
    "shared state": (
        SharesItsGenerator,
        "a second instance that takes turns with it changes its actions. Keep state on the",
    ),
    "random weights": (RandomWeights, "two instances with the same arguments and the same seed act differently."),
    "queue that is not emptied": (KeepsItsQueue, "Reset everything in `reset`"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_agent_is_named_with_what_to_do(case):
    factory, sentence = BROKEN[case]
    with pytest.raises(ContractViolation) as caught:
        check_agent(factory)
    assert str(caught.value).startswith("Agent ")
    assert sentence in str(caught.value)


def test_an_observation_kept_for_the_next_step_is_named():
    class ReadsLate(Base):
        needs = Needs(modalities=("rgb",))
        last = None

        def act(self, observation):
            last, self.last = self.last, observation
            return np.zeros(4) if last is None else np.full(4, last.rgb().mean() / 255)

    with pytest.raises(
        ContractViolation, match="`act` failed: 'front/rgb' of step 0 was first read after the simulator"
    ):
        check_agent(ReadsLate)


def test_an_agent_that_only_breaks_when_it_is_reset_twice_is_found():
    class Counts(Base):
        """Every other reset in a row is lost; an episode in between hides it."""

        resets = 0

        def reset(self, task, cameras, seed):
            self.resets += 1

        def act(self, observation):
            lost, self.resets = self.resets > 1, 0
            return np.full(4, float(lost))

    with pytest.raises(ContractViolation, match="its first action differs after it was reset twice in a row"):
        check_agent(Counts)


def test_a_defect_of_the_agent_keeps_its_traceback():
    class Divides(Base):
        def act(self, observation):
            return 1 / 0

    with pytest.raises(ZeroDivisionError):
        check_agent(Divides)


def test_what_is_no_agent_at_all_is_named():
    with pytest.raises(ContractViolation, match="check_agent was given 3. Give it a class, a function that builds"):
        check_agent(3)


def test_tensors_that_require_gradients_are_named():
    torch = pytest.importorskip("torch")
    with pytest.raises(ContractViolation, match="`act` returned Tensor, which is no numeric array"):
        check_agent(answering(lambda: torch.zeros(4, requires_grad=True)))


def test_the_check_leaves_no_trace_in_the_global_generators():
    np.random.seed(3)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    check_agent(RandomAgent)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


# --- our own controls


def test_random_actions_fill_the_whole_action_space():
    task = replace(
        TOY.task("push"),
        action_spec=replace(TOY.task("push").action_spec, low=(-1.0, 0.0, 2.0, -3.0), high=(1.0, 0.5, 5.0, -2.0)),
    )
    agent = RandomAgent()
    agent.reset(task, {}, 5)
    actions = np.stack([agent.act(None) for _ in range(2000)])
    assert np.allclose(actions.min(axis=0), task.action_spec.low, atol=0.02)
    assert np.allclose(actions.max(axis=0), task.action_spec.high, atol=0.02)
    agent.reset(task, {}, 6)
    assert not np.array_equal(agent.act(None), actions[0])


def test_the_zero_agent_stays_within_bounds_that_exclude_zero():
    task = replace(
        TOY.task("push"),
        action_spec=replace(TOY.task("push").action_spec, low=(0.25, -1.0, -1.0, -1.0), high=(1.0, 1.0, -0.5, 1.0)),
    )
    agent = ZeroAgent()
    agent.reset(task, {}, 0)
    assert agent.act(None).tolist() == [0.25, 0.0, -0.5, 0.0]


def test_a_simulator_without_an_expert_is_named_with_those_that_have_one():
    task = replace(TOY.tasks[0], family="habitat", suite="objectnav")
    with pytest.raises(AgentError) as caught:
        ScriptedAgent().reset(task, {}, 0)
    assert str(caught.value) == (
        "No scripted expert is written for habitat, the simulator of suite objectnav. Experts exist for: "
        f"{', '.join(sorted(EXPERTS))}. Choose one of their suites, or another agent: flowbench list agents"
    )


def test_an_expert_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(EXPERTS, "absent", "no_such_simulator.policies:Expert")
    with pytest.raises(MissingExtra) as caught:
        ScriptedAgent().reset(replace(TOY.tasks[0], family="absent", suite="absent9"), {}, 0)
    assert str(caught.value) == (
        "The scripted expert of suite absent9 needs an extra that is not installed (no module named 'no_such_simulator'). "
        "Install it: pip install 'flowbench[absent]'"
    )


def test_the_scripted_agent_is_privileged_and_loads_no_expert_before_it_is_reset():
    assert ScriptedAgent.needs == Needs(privileged=True)
    assert ScriptedAgent()._experts == {}


def test_the_check_refuses_a_suite_that_does_not_exist():
    with pytest.raises(FlowBenchError, match="There is no suite 'tyo'. Did you mean 'toy'?"):
        check_agent(RandomAgent, suite="tyo")
    assert get_suite("toy") is TOY
