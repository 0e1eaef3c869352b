"""Names to objects: what is found, and the sentence for what is not."""

import sys
import textwrap

import pytest

import flowbench
from flowbench import registry
from flowbench.agent import Needs
from flowbench.agents.controls import RandomAgent
from flowbench.errors import AgentError, BadValue, FlowBenchError, MissingExtra, UnknownName
from flowbench.registry import agent_class, agent_names, get_suite, make_agent, suite_names


class Still:
    """An agent with every kind of constructor argument."""

    needs = Needs()

    def __init__(self, speed: float, *, device: str = "cpu", checkpoint: str = "own default"):
        self.speed, self.device, self.checkpoint = speed, device, checkpoint

    def reset(self, task, cameras, seed):
        pass

    def act(self, observation):
        return [0.0]


class Trained(Still):
    def __init__(self, checkpoint: str):
        super().__init__(1.0, checkpoint=checkpoint)


class TakesAnything(Still):
    def __init__(self, **arguments):
        self.arguments = arguments


class Buggy(Still):
    def __init__(self):
        raise TypeError("a defect inside the constructor")


class NoAct:
    needs = Needs()

    def reset(self, task, cameras, seed):
        pass


HERE = __name__


def message(error: type[Exception], call, *arguments, **keywords) -> str:
    with pytest.raises(error) as caught:
        call(*arguments, **keywords)
    return str(caught.value)


# --- suites


def test_the_suites_of_the_package_are_registered():
    assert {"toy", "metaworld11", "metaworld-mt10", "metaworld-mt50", "libero10", "libero-spatial"} <= set(
        suite_names()
    )


def test_an_unknown_suite_names_the_nearest_one():
    text = message(UnknownName, get_suite, "metaworld1")
    assert text.startswith("There is no suite 'metaworld1'. Did you mean 'metaworld11'?")
    assert text.endswith("List them: flowbench list suites")


def test_an_unknown_task_names_the_nearest_one():
    assert message(UnknownName, flowbench.make, "toy", "psuh") == (
        "Suite toy has no task 'psuh'. Did you mean 'push'? Available: lift, push, reach. List them: flowbench list tasks toy"
    )


def test_a_task_can_be_part_of_the_suite_s_name():
    assert flowbench.make("toy/lift").task.name == "lift"
    assert flowbench.make("toy").task.name == "reach"


def test_an_entry_point_that_is_no_suite_is_refused(monkeypatch):
    class Entry:
        value = "somewhere:THING"

        def load(self):
            return "not a suite"

    monkeypatch.setattr(registry, "entries_of", lambda group: {"odd": Entry()})
    text = message(BadValue, get_suite.__wrapped__, "odd")
    assert text == "Entry point 'odd' (somewhere:THING) is a str; expected a Suite."


def test_a_clone_that_is_not_installed_says_so(monkeypatch):
    monkeypatch.setattr(registry, "entry_points", lambda group: [])
    text = message(FlowBenchError, registry.entries_of.__wrapped__, registry.SUITE_GROUP)
    assert text == "FlowBench is not installed: no entry points found. Run: pip install -e ."


# --- agents by name, module and file


def test_a_registered_agent_is_found():
    assert {"random", "zero", "scripted"} <= set(agent_names())
    assert agent_class("random") is RandomAgent


def test_an_unknown_agent_names_the_nearest_one_and_the_other_ways():
    text = message(UnknownName, agent_class, "scritped")
    assert text.startswith("There is no agent 'scritped'. Did you mean 'scripted'?")
    assert "package.module:Class or as path/to/file.py:Class" in text


def test_an_agent_is_found_by_module_and_class():
    assert agent_class("flowbench.agents.controls:RandomAgent") is RandomAgent


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "no_such_module:Agent",
            "Agent 'no_such_module:Agent' could not be imported: no module named 'no_such_module'. Check the spelling, and "
            "that it is installed or on PYTHONPATH.",
        ),
        (
            "flowbench.agents.controls:RandmAgent",
            "Agent 'flowbench.agents.controls:RandmAgent' could not be imported: module 'flowbench.agents.controls' has no "
            "attribute 'RandmAgent'.",
        ),
        (":Agent", "Agent ':Agent' could not be imported: Empty module name."),
        ("missing.py", "Agent file 'missing.py' does not exist."),
    ],
)
def test_an_agent_that_cannot_be_imported_says_why(name, sentence):
    assert message(AgentError, agent_class, name) == sentence


def test_a_registered_agent_without_its_extra_says_what_to_install(monkeypatch):
    class Entry:
        def load(self):
            raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(registry, "entries_of", lambda group: {"sof": Entry()})
    assert message(MissingExtra, agent_class, "sof") == (
        "Agent sof needs an extra that is not installed (no module named 'torch'). "
        "Install it: pip install 'flowbench[agents]'"
    )


def write_agent(path, source: str):
    path.write_text(textwrap.dedent(source))
    return path


ONE_AGENT = """
    from flowbench.agent import Needs

    class Mine:
        needs = Needs()
        def reset(self, task, cameras, seed): ...
        def act(self, observation): return [0.0]
"""


def test_the_only_agent_of_a_file_needs_no_name(tmp_path):
    path = write_agent(tmp_path / "mine.py", ONE_AGENT)
    assert agent_class(str(path)).__name__ == "Mine"
    assert agent_class(f"{path}:Mine").__name__ == "Mine"
    assert make_agent(str(path), {}).act(None) == [0.0]


def test_a_file_with_several_agents_asks_for_a_name(tmp_path):
    path = write_agent(tmp_path / "two.py", ONE_AGENT + "\n    class Yours(Mine): ...\n")
    text = message(AgentError, agent_class, str(path))
    assert text == f"Agent file {str(path)!r} defines Mine, Yours with an `act` method; name one: {path}:ClassName."
    assert agent_class(f"{path}:Yours").__name__ == "Yours"


def test_a_file_without_an_agent_says_so(tmp_path):
    path = write_agent(tmp_path / "none.py", "x = 1\n")
    assert "defines none with an `act` method" in message(AgentError, agent_class, str(path))
    assert message(AgentError, agent_class, f"{path}:Mine") == f"Agent file {str(path)!r} defines no 'Mine'."


def test_a_file_that_is_not_python_says_where(tmp_path):
    path = write_agent(tmp_path / "torn.py", "class Mine(:\n")
    text = message(AgentError, agent_class, str(path))
    assert "could not be imported" in text and "torn.py, line 1" in text


# --- building agents


def test_arguments_and_device_reach_the_constructor():
    agent = make_agent(f"{HERE}:Still", {"speed": 2.0}, device="cuda:1")
    assert (agent.speed, agent.device) == (2.0, "cuda:1")


def test_the_user_s_own_argument_wins_over_the_device():
    assert make_agent(f"{HERE}:Still", {"speed": 2.0, "device": "cpu"}, device="cuda:1").device == "cpu"


def test_a_checkpoint_that_is_not_given_leaves_the_default():
    assert make_agent(f"{HERE}:Still", {"speed": 1.0}).checkpoint == "own default"
    assert make_agent(f"{HERE}:Still", {"speed": 1.0}, checkpoint="a.pt").checkpoint == "a.pt"


def test_a_constructor_that_takes_anything_gets_the_checkpoint():
    assert make_agent(f"{HERE}:TakesAnything", {"x": 1}, checkpoint="a.pt").arguments == {"x": 1, "checkpoint": "a.pt"}


def test_a_checkpoint_for_an_agent_without_one_is_refused():
    text = message(BadValue, make_agent, "random", {}, checkpoint="a.pt")
    assert text == "Agent random takes no checkpoint, but --checkpoint a.pt was given."


def test_an_agent_that_needs_a_checkpoint_asks_for_it():
    text = message(BadValue, make_agent, f"{HERE}:Trained", {})
    assert text == f"Agent {HERE}:Trained needs a checkpoint. Give it with --checkpoint PATH."
    assert make_agent(f"{HERE}:Trained", {}, checkpoint="a.pt").checkpoint == "a.pt"


def test_an_unknown_argument_names_the_nearest_one():
    text = message(UnknownName, make_agent, f"{HERE}:Still", {"sped": 1})
    assert "has no argument 'sped'. Did you mean 'speed'?" in text
    assert "Arguments come from --agent-args." in text


def test_a_missing_argument_is_named():
    text = message(BadValue, make_agent, f"{HERE}:Still", {})
    assert text == (
        f"Agent {HERE}:Still could not be built from {{}}: missing a required argument: 'speed'. Give it with --agent-args."
    )


def test_a_defect_inside_a_constructor_keeps_its_own_error():
    assert message(TypeError, make_agent, f"{HERE}:Buggy", {}) == "a defect inside the constructor"


def test_an_object_that_is_no_agent_says_what_is_missing():
    text = message(AgentError, make_agent, f"{HERE}:NoAct", {})
    assert text == (
        f"Agent {HERE}:NoAct has no 'act'; an agent has `needs`, `reset(task, cameras, seed)` and `act(observation)`. "
        "Check yours with flowbench.testing.check_agent."
    )


def test_the_import_strings_of_this_test_reach_this_very_module():
    assert sys.modules[HERE].Still is Still
