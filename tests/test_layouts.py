"""Layouts: the tables of papers as data, ours and other people's."""

import pytest

from flowbench.errors import BadValue, UnknownName
from flowbench.layouts import Column, Layout, get_layout, layout_names
from flowbench.registry import get_suite, suite_names


def test_layouts_name_tasks_that_their_suites_have():
    tasks = {task.name for task in get_suite("metaworld11").tasks}
    avdc = get_layout("avdc-metaworld")
    assert set(avdc.columns[-1].tasks) == tasks
    assert [column.tasks for column in avdc.columns[:-1]] == [(task.name,) for task in get_suite("metaworld11").tasks]


@pytest.mark.parametrize("name", layout_names()[1:])
def test_a_layout_that_can_be_filled_names_suites_protocols_and_cameras_that_exist(name):
    layout = get_layout(name)
    assert layout.name == name
    assert layout.caption.endswith(".")
    unknown = set(layout.suites) - set(suite_names())
    assert bool(unknown) != layout.fillable
    for suite in set(layout.suites) - unknown:
        assert set(layout.protocols) <= set(get_suite(suite).protocols)
        assert set(layout.cameras) <= set(get_suite(suite).views)


def test_avdcs_layout_stands_for_avdcs_cameras():
    assert get_layout("avdc-metaworld").cameras == ("corner", "corner2", "corner3")


def test_a_wrong_name_gets_the_nearest_one():
    with pytest.raises(
        UnknownName, match=r"There is no layout 'libro'. Did you mean 'libero'\?.*module:OBJECT or path"
    ):
        get_layout("libro")


MINE = """
from flowbench.layouts import Column, Layout
MINE = Layout("mine", "My table.", (Column("push", "Push", tasks=("push",)),), suites=("toy",))
OTHER = 3
"""


def test_a_layout_of_ones_own_is_a_file_or_a_module(tmp_path, monkeypatch):
    path = tmp_path / "my_layouts.py"
    path.write_text(MINE)
    assert get_layout(f"{path}:MINE").caption == "My table."
    monkeypatch.syspath_prepend(tmp_path)
    assert get_layout("my_layouts:MINE").name == "mine"


@pytest.mark.parametrize(
    "place, sentence",
    [
        ("{0}:OTHER", "is a int; expected a flowbench.layouts.Layout."),
        ("{0}:NONE", "defines no 'NONE'"),
        ("nowhere.py:MINE", "Layout file 'nowhere.py' does not exist."),
        ("no.such.module:MINE", "Layout 'no.such.module:MINE' could not be imported: No module named 'no'."),
        ("flowbench.layouts.papers:NONE", "could not be imported: module 'flowbench.layouts.papers' has no attribute"),
    ],
)
def test_what_is_no_layout_is_named(tmp_path, place, sentence):
    path = tmp_path / "my_layouts.py"
    path.write_text(MINE)
    with pytest.raises(BadValue) as refused:
        get_layout(place.format(path))
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"columns": ()}, "needs columns with different keys"),
        ({"columns": (Column("a", "A"), Column("a", "B"))}, "needs columns with different keys; it has ['a', 'a']"),
        ({"columns": "rows"}, "has columns 'rows'; give a tuple of Column, 'tasks' or 'cameras'"),
        ({"columns": "tasks", "rows": "tasks"}, "has tasks as rows; then its columns are 'cameras'"),
    ],
)
def test_a_layout_that_makes_no_sense_is_refused(changes, sentence):
    with pytest.raises(BadValue) as refused:
        Layout(**{"name": "x", "caption": "X.", **changes})
    assert sentence in str(refused.value)
