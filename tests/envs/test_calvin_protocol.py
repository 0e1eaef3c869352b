"""CALVIN's protocol, which needs neither PyBullet nor the checkout: tasks, sequences, initial states and their hash."""

import numpy as np
import pytest

from flowbench.envs.calvin import sequences as module
from flowbench.envs.calvin.initial_states import condition_seed, initial_conditions, initial_state, pyhash_fnv1_32
from flowbench.envs.calvin.sequences import DIGEST, digest, draw_sequences, sequences
from flowbench.envs.calvin.suites import CALVIN_D_D, CALVIN_TASKS, scene_of
from flowbench.envs.calvin.tasks import TASKS, after
from flowbench.errors import DataError
from flowbench.registry import get_suite


def test_the_thousand_sequences_are_the_published_ones():
    found = sequences()
    assert len(found) == 1000 and digest(list(found)) == DIGEST
    # Golden values of the published list.
    assert found[0].tasks == (
        "rotate_blue_block_right",
        "move_slider_right",
        "lift_red_block_slider",
        "place_in_slider",
        "turn_off_lightbulb",
    )
    assert dict(found[0].condition) == {
        "led": 1,
        "lightbulb": 1,
        "slider": "left",
        "drawer": "open",
        "red_block": "slider_left",
        "blue_block": "table",
        "pink_block": "slider_right",
        "grasped": 0,
    }
    assert found[1].tasks[:2] == ("turn_off_led", "push_into_drawer")
    assert {task for one in found for task in one.tasks} == set(TASKS)


def test_every_sequence_can_be_understood_in_one_way_and_repeats_no_kind_of_task():
    for one in sequences():
        condition = one.condition
        for task in one.tasks:
            (condition,) = after(condition, task)
        assert len({TASKS[task].category for task in one.tasks}) == 5


def test_the_generator_draws_what_is_shipped_for_one_initial_condition():
    shipped = {one.tasks for one in sequences() if one.condition == initial_conditions()[0]}
    assert set(module._draw(initial_conditions()[0], 6, seed=0)) == shipped


@pytest.mark.slow
def test_the_generator_draws_the_sequences_that_are_shipped():
    assert digest(draw_sequences(1000)) == DIGEST


def test_a_changed_list_of_sequences_is_refused(monkeypatch):
    sequences.cache_clear()
    monkeypatch.setattr(module, "DIGEST", "0" * 64)
    with pytest.raises(DataError, match="does not hold CALVIN's evaluation sequences"):
        sequences()
    monkeypatch.undo()
    assert len(sequences()) == 1000


def test_there_are_192_initial_conditions_of_one_or_two_blocks_on_the_table():
    conditions = initial_conditions()
    assert len(conditions) == 192
    assert {list(one.values()).count("table") for one in conditions} == {1, 2}
    assert {list(one.values()).count("slider_left") for one in conditions} == {0, 1}


def test_the_hash_is_pyhash_s_and_not_fnv_1_of_utf_8():
    assert condition_seed(sequences()[0].condition) == 2138410836

    def fnv1(text):
        value = 0x811C9DC5
        for byte in text.encode():
            value = ((value * 0x01000193) & 0xFFFFFFFF) ^ byte
        return value

    text = str(dict(sequences()[0].condition).values())
    assert text.startswith("dict_values([1, 1, 'left', 'open',")
    assert pyhash_fnv1_32(text) != fnv1(text)
    assert pyhash_fnv1_32("a") == 0x61 * 0x01000193 & 0xFFFFFFFF


def test_another_hash_places_the_blocks_of_most_sequences_differently(monkeypatch):
    """What a harness with FNV-1 over UTF-8 evaluates is another benchmark; the counts are those that its authors can check."""

    def fnv1(condition):
        value = 0x811C9DC5
        for byte in str(dict(condition).values()).encode():
            value = ((value * 0x01000193) & 0xFFFFFFFF) ^ byte
        return value

    ours = [initial_state(one.condition).scene_obs for one in sequences()]
    monkeypatch.setattr("flowbench.envs.calvin.initial_states.condition_seed", fnv1)
    theirs = [initial_state(one.condition).scene_obs for one in sequences()]
    positions = [6, 7, 8, 12, 13, 14, 18, 19, 20]
    yaws = [11, 17, 23]
    assert sum(not np.array_equal(a[positions], b[positions]) for a, b in zip(ours, theirs, strict=True)) == 557
    assert all((a[yaws] != b[yaws]).all() for a, b in zip(ours, theirs, strict=True))


def test_the_initial_state_puts_everything_where_its_condition_says():
    state = initial_state(sequences()[0].condition)
    assert state.scene_obs[[0, 1, 3, 4, 5]].tolist() == [0.28, 0.22, 0.088, 1.0, 1.0]
    red, blue, pink = state.scene_obs[6:].reshape(3, 6)
    assert red[:3] == pytest.approx([-0.2409, 0.0924, 0.4610], abs=1e-4)
    assert pink[:3] == pytest.approx([0.0703, 0.0924, 0.4610], abs=1e-4)
    assert blue[1] == pytest.approx(-0.12, abs=1e-3) and blue[0] in (0.0500000896, 0.229995412)
    assert all(abs(block[5] - np.pi / 2) <= np.pi / 8 for block in (red, blue, pink))
    # The arm's start is the same in every sequence.
    assert np.array_equal(state.robot_obs, initial_state(sequences()[999].condition).robot_obs)


def test_asking_for_a_state_leaves_the_global_generator_alone():
    before = str(np.random.get_state())  # noqa: NPY002 - other people's code draws from it
    initial_state(sequences()[7].condition)
    module._draw(initial_conditions()[0], 1, seed=0)
    assert str(np.random.get_state()) == before  # noqa: NPY002


def test_a_task_can_be_asked_for_only_where_it_makes_sense():
    condition = dict(sequences()[0].condition)
    assert after(condition, "open_drawer") == []
    assert after(condition, "close_drawer") == [{**condition, "drawer": "closed"}]
    # The door hides the half that it stands in front of.
    assert after(condition, "lift_red_block_slider") == []
    assert len(after({**condition, "slider": "right"}, "lift_red_block_slider")) == 1


def test_three_suites_are_one_evaluation_and_say_what_the_agent_was_trained_on():
    suites = [get_suite(name) for name in ("calvin-d-d", "calvin-abc-d", "calvin-abcd-d")]
    assert [suite.init_states for suite in suites] == [1000] * 3
    for rules in [suite.rules() for suite in suites]:
        assert (rules.name, rules.horizon, rules.chain, rules.episodes) == ("exact", 360, 5, 1000)
    assert {scene_of(suite.name) for suite in suites} == {"D"}
    assert list(CALVIN_D_D.protocols) == ["exact", "official", "absolute"]


def test_the_tasks_alone_have_their_validation_sentences_and_four_scenes():
    assert len(CALVIN_TASKS.tasks) == 34
    assert CALVIN_TASKS.task("lift_red_block_drawer").instruction == "Take the red block from the drawer"
    assert CALVIN_TASKS.task("turn_on_led").instruction == "press the button to turn on the led light"
    assert CALVIN_TASKS.task("push_into_drawer").instruction == "slide the block that it falls into the drawer"
    assert [scene_of(f"calvin-tasks{end}") for end in ("-a", "-b", "-c", "")] == ["A", "B", "C", "D"]
