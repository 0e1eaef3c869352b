"""The stand-in held to what the real player recorded: 120 rooms of objects with distances and visible flags."""

import math

import numpy as np
import pytest

pytest.importorskip("ai2thor", reason="iTHOR: pip install 'flowbench[ithor]'")
pytest.importorskip("procthor", reason="the record of iTHOR's rooms: pip install 'flowbench[ithor-recorded]'")

import msgpack

from flowbench.envs.ithor.standin.metadata import ObjectList
from flowbench.envs.ithor.standin.painter import Eye, Painter
from flowbench.envs.ithor.standin.procedural import make_room as make_procedural_room
from flowbench.envs.ithor.standin.recorded import _box, make_room, record, recorded_objects, recorded_start
from flowbench.envs.ithor.standin.rooms import AGENT_Y_M, EYE_ABOVE_AGENT_M, SCENES, number_and_kind
from flowbench.envs.ithor.standin.sight import Sight
from flowbench.envs.ithor.suites import AVDC_TARGETS

#: Every fourth room, of each kind.
SOME = SCENES[::4]


@pytest.fixture(scope="module", autouse=True)
def the_record():
    """Read it once, outside of any test's time."""
    return record()


def test_objects_have_the_keys_and_types_that_the_real_player_sends():
    real = recorded_objects("FloorPlan1_physics")
    room = make_procedural_room("FloorPlan1_physics")
    ours = msgpack.unpackb(ObjectList(room).pack((0.0, AGENT_Y_M, 0.0), {1}))
    for entry in ours:
        assert set(entry) == set(real[0])
    numbers = (int, float)
    for key in real[0]:
        kinds = {bool: bool, int: numbers, float: numbers}
        expected = {kinds.get(type(entry[key]), type(entry[key])) for entry in real}
        for entry in ours:
            kind = kinds.get(type(entry[key]), type(entry[key]))
            assert kind in expected or entry[key] is None or kind is list, (key, entry[key])


@pytest.mark.parametrize("scene", SCENES[::10])
def test_distance_is_from_the_agents_own_height(scene):
    start = recorded_start(recorded_objects(scene))
    assert start.error_m < 1e-5
    # Floors are not all at the same height.
    assert start.position[1] == pytest.approx(AGENT_Y_M, abs=0.11)


def test_the_first_rooms_start_is_the_known_one():
    assert recorded_start(recorded_objects("FloorPlan1")).position == pytest.approx([-1.0, 0.901, 1.0], abs=1e-3)


def test_all_twelve_targets_are_in_their_rooms_and_the_hanger_comes_before_the_paper():
    for scene, targets in AVDC_TARGETS.items():
        objects = recorded_objects(scene)
        assert set(targets) <= {entry["objectType"] for entry in objects}
        for target in targets:
            first = next(entry for entry in objects if target in entry["name"])
            assert (first["objectType"] == target) == (target != "ToiletPaper")
    assert first["objectType"] == "SoapBar"


def test_rooms_keep_names_ids_and_places_of_the_real_objects():
    for scene in SOME[::6]:
        room, objects = make_room(scene), {entry["objectId"]: entry for entry in recorded_objects(scene)}
        for thing in room.things[1:]:
            entry = objects[thing.object_id]
            assert (thing.name, thing.type) == (entry["name"], entry["objectType"])
            assert thing.position == tuple(entry["position"].values())
        assert len(room.things) == len(objects)


def test_the_box_of_a_turned_object_fills_the_recorded_one_around_it():
    checked = 0
    for scene in SCENES:
        for entry in recorded_objects(scene):
            if entry["objectOrientedBoundingBox"] is not None:
                continue
            box = _box(entry)
            angle = math.radians(box.yaw_deg)
            # Near 45 degrees width and depth cannot be told apart.
            if box.yaw_deg and abs(box.yaw_deg - 45) > 8:
                turned = np.abs([[math.cos(angle), math.sin(angle)], [math.sin(angle), math.cos(angle)]])
                recorded = [max(entry["axisAlignedBoundingBox"]["size"][axis], 0.008) / 2 for axis in "xz"]
                assert turned @ box.half[[0, 2]] == pytest.approx(recorded, rel=0.01, abs=0.004), entry["objectId"]
                checked += 1
    assert checked >= 10


def matched(scene):
    objects = {entry["objectId"]: entry for entry in recorded_objects(scene)}
    return [(thing, objects[thing.object_id]) for thing in make_room(scene).things if thing.object_id in objects]


def test_what_the_blocks_hide_agrees_with_what_the_real_player_saw(opengl):
    """F1 of the recorded visible flags; the record does not say where the agent looked, so each room's best direction counts."""
    counts = np.zeros(3)
    for scene in SOME:
        room, start = make_room(scene), recorded_start(recorded_objects(scene)).position
        sight = Sight(Painter(room))
        truth = np.array([entry["visible"] for _, entry in matched(scene)])
        whose = [room.things.index(thing) for thing, _ in matched(scene)]
        best = None
        for yaw_deg in (0, 90, 180, 270):
            for horizon_deg in (0, 30):
                eye = Eye((start[0], start[1] + EYE_ABOVE_AGENT_M, start[2]), yaw_deg, horizon_deg, 0.0, 90.0)
                seen = sight.visible(eye, 1.0, 1.5)
                found = np.array([index in seen for index in whose])
                tally = np.array([(found & truth).sum(), (found & ~truth).sum(), (~found & truth).sum()])
                if best is None or f1(tally) > f1(best):
                    best = tally
        counts += best
    assert counts.sum() > 100 and f1(counts) >= 0.84


def f1(tally):
    return 2 * tally[0] / max(1, 2 * tally[0] + tally[1] + tally[2])


def test_rooms_can_be_walked_from_where_the_agent_was(opengl):
    from flowbench.envs.ithor.standin.walking import Floor

    for scene in SOME[::3]:
        room = make_room(scene)
        places = Floor(room).reachable(room.start, 0.25)
        assert len(places) >= 30, scene
        start = recorded_start(recorded_objects(scene)).position
        assert math.dist(room.start, start[[0, 2]]) < 0.13


def test_the_kind_of_a_room_is_its_place_in_the_record():
    assert [number_and_kind(scene)[1] for scene in ("FloorPlan1", "FloorPlan201", "FloorPlan301", "FloorPlan401")] == [
        "Kitchen", "LivingRoom", "Bedroom", "Bathroom",
    ]  # fmt: skip
