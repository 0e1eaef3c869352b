"""Evaluations as data: ids, limits, hashes."""

import json
from dataclasses import replace

import pytest

from flowbench.errors import BadValue, CameraError, StoreError, UnknownName
from flowbench.spec import AgentSpec, EvalSpec

SPEC = EvalSpec("toy", "default", AgentSpec("random"), ("reach", "push"), ("front", "side+yaw15"), (0, 3))


def test_ids_are_readable_and_unique():
    ids = [episode.id for episode in SPEC.episodes()]
    assert ids[0] == "toy/reach@front/s000"
    assert "toy/push@side+yaw15/s003" in ids
    assert len(set(ids)) == 2 * 2 * 2


def test_the_scenario_id_pairs_cameras_and_the_agent_seed_does_not():
    first, second = SPEC.episodes()[:2]
    assert first.camera != second.camera
    assert first.scenario_id == second.scenario_id
    assert first.agent_seed != second.agent_seed
    assert first.agent_seed == SPEC.episodes()[0].agent_seed


def test_stored_initial_states_are_crossed_with_seeds():
    spec = replace(SPEC, suite="libero10", init_states=(4, 9), seeds=(0, 1))
    assert [scenario.key for scenario in spec.scenarios] == ["i004-s000", "i004-s001", "i009-s000", "i009-s001"]


def test_a_limit_takes_from_all_tasks_in_turn():
    limited = replace(SPEC, limit=3).episodes()
    assert [episode.id for episode in limited] == [
        "toy/reach@front/s000",
        "toy/reach@side+yaw15/s000",
        "toy/push@front/s000",
    ]
    assert replace(SPEC, limit=100).episodes() == SPEC.episodes()


def test_json_round_trips_and_the_hash_follows_the_content():
    again = EvalSpec.from_json(json.loads(json.dumps(SPEC.to_json())))
    assert again == SPEC
    assert again.digest == SPEC.digest
    for change in ({"seeds": (0,)}, {"clip_actions": True}, {"agent": AgentSpec("random", {"x": 1})}, {"max_steps": 5}):
        assert replace(SPEC, **change).digest != SPEC.digest


def test_max_steps_replaces_the_protocol_horizon():
    assert replace(SPEC, max_steps=7).rules.horizon == 7
    assert SPEC.rules.horizon != 7


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"suite": "metaworld1l"}, UnknownName, r"no suite 'metaworld1l'. Did you mean 'metaworld11'"),
        ({"tasks": ("raech",)}, UnknownName, r"Suite toy has no task 'raech'. Did you mean 'reach'"),
        ({"cameras": ("frnt",)}, UnknownName, r"Suite toy has no camera 'frnt'. Did you mean 'front'"),
        ({"cameras": ("front+jaw5",)}, CameraError, r"offset 'jaw5' that is not one of"),
        ({"protocol": "defualt"}, UnknownName, r"no protocol 'defualt'. Did you mean 'default'"),
        ({"seeds": ()}, BadValue, "has no seeds"),
        ({"seeds": (1, 1)}, BadValue, "seeds lists 1 2 times; each episode is run once"),
        ({"init_states": (0,)}, BadValue, "stores no initial states"),
        ({"limit": 0}, BadValue, "--limit is 0; give a whole number from 1"),
        ({"max_steps": -1}, BadValue, "--max-steps is -1"),
    ],
)
def test_what_does_not_exist_is_named_with_the_nearest(change, error, message):
    with pytest.raises(error, match=message):
        replace(SPEC, **change).check()


def test_a_spec_of_another_format_is_refused():
    with pytest.raises(StoreError, match="cannot be read .*newer FlowBench"):
        EvalSpec.from_json({**SPEC.to_json(), "colour": "blue"})
