"""`flowbench list`: every name that the other commands take."""

import pytest
from click.testing import CliRunner

from flowbench.camera import OFFSET_KINDS
from flowbench.cli.list import list_
from flowbench.errors import UnknownName
from flowbench.registry import agent_names, get_suite, suite_names
from flowbench.suite import Suite


def listed(*arguments):
    ran = CliRunner().invoke(list_, list(arguments))
    assert ran.exit_code == 0, ran.output
    return ran.output


def first_words(text):
    return [line.split()[0] for line in text.splitlines() if line.strip()]


def test_suites_are_listed_with_their_default_protocol_and_state():
    text = listed("suites")
    assert first_words(text) == suite_names()
    (toy,) = [line for line in text.splitlines() if line.startswith("toy")]
    assert toy.split("  ")[-1].strip() == "installed"
    assert get_suite("toy").default_protocol in toy


def test_a_suite_that_is_not_installed_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(Suite, "missing_modules", lambda self: ("thing",) if self.extra else ())
    (line,) = [line for line in listed("suites").splitlines() if line.startswith("libero10")]
    assert line.endswith("needs: pip install 'flowbench[libero]'")


def test_a_suite_that_cannot_be_imported_does_not_hide_the_others(monkeypatch):
    def get(name):
        if name == "toy":
            raise ModuleNotFoundError("No module named 'plugin'")
        return get_suite(name)

    monkeypatch.setattr("flowbench.cli.list.get_suite", get)
    text = listed("suites")
    assert first_words(text) == suite_names()
    assert "cannot be imported: No module named 'plugin'" in text


def test_agents_are_listed_with_what_they_do():
    text = listed("agents")
    assert first_words(text)[: len(agent_names())] == agent_names()
    assert "path/to/file.py:Class" in text


def test_tasks_are_listed_in_order_with_their_instructions():
    text = listed("tasks", "toy")
    assert first_words(text) == [task.name for task in get_suite("toy").tasks]
    assert get_suite("toy").tasks[0].instruction in text


def test_cameras_are_listed_with_every_offset():
    text = listed("cameras", "toy")
    assert f"{get_suite('toy').default_view}  (default)" in text
    for view in get_suite("toy").views:
        assert view in first_words(text)
    for kind, meaning in OFFSET_KINDS.items():
        assert f"+{kind}<number>" in text
        assert meaning in text


@pytest.mark.parametrize("name", ["toy", "libero10", "metaworld11"])
def test_protocols_are_listed_with_their_numbers_and_source(name):
    text = listed("protocols", name)
    for rules in get_suite(name).protocols.values():
        assert f"{rules.horizon} steps" in text
        assert rules.source in text
    assert f"{get_suite(name).default_protocol}  (default)" in text


@pytest.mark.parametrize("what", ["tasks", "cameras", "protocols"])
def test_an_unknown_suite_is_named_with_the_nearest_one(what):
    ran = CliRunner().invoke(list_, [what, "libero-10"])
    assert isinstance(ran.exception, UnknownName)
    assert "There is no suite 'libero-10'. Did you mean 'libero10'?" in str(ran.exception)
