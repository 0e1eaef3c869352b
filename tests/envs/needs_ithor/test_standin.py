"""The stand-in player: AI2-THOR's protocol towards the unmodified client, and rooms that can be lived in."""

import math

import numpy as np
import pytest

pytest.importorskip("ai2thor", reason="iTHOR: pip install 'flowbench[ithor]'")

from ai2thor.controller import Controller

from flowbench.envs.ithor.players import find_standin
from flowbench.envs.ithor.standin.catalogue import CONTENTS, MODELS
from flowbench.envs.ithor.standin.materials import MATERIALS, paint
from flowbench.envs.ithor.standin.procedural import make_room
from flowbench.envs.ithor.standin.rooms import SCENES, number_and_kind
from flowbench.envs.ithor.standin.walking import Floor
from flowbench.envs.ithor.suites import ACTIONS, AVDC_TARGETS

#: A room of each kind.
SOME = ("FloorPlan1_physics", "FloorPlan214_physics", "FloorPlan301_physics", "FloorPlan430_physics")


@pytest.fixture(scope="module")
def unmodified(opengl):
    """AI2-THOR's own controller, as released, with the stand-in as its executable."""
    controller = Controller(
        local_executable_path=find_standin().arguments["local_executable_path"], x_display=":0", scene="FloorPlan1",
        width=128, height=96, renderDepthImage=True, renderInstanceSegmentation=True,
    )  # fmt: skip
    yield controller
    controller.stop()


# --- the protocol


def test_the_unmodified_client_gets_everything_that_it_decodes(unmodified):
    event = unmodified.reset("FloorPlan1")
    assert event.frame.shape == (96, 128, 3) and event.depth_frame.shape == (96, 128)
    assert event.instance_segmentation_frame.shape == (96, 128, 3)
    assert event.metadata["sceneName"] == "FloorPlan1_physics" and len(unmodified.scenes_in_build) == 120
    shown = {name.split("|")[0] for name in event.instance_masks}
    assert shown and shown <= set(event.class_masks) | {"Floor"}
    for name, (left, top, right, bottom) in event.instance_detections2D.items():
        assert 0 <= left <= right < 128 and 0 <= top <= bottom < 96, name
    covered = np.any([event.class_masks[name] for name in event.class_masks], axis=0)
    assert covered.mean() > 0.2


def test_every_action_of_navigation_has_its_effect_and_its_failures(unmodified):
    unmodified.reset("FloorPlan1")
    agent = lambda: unmodified.last_event.metadata["agent"]  # noqa: E731
    yaw = agent()["rotation"]["y"]
    unmodified.step("RotateRight")
    assert (agent()["rotation"]["y"] - yaw) % 360 == 90
    unmodified.step("RotateLeft", degrees=45)
    assert (agent()["rotation"]["y"] - yaw) % 360 == 45
    for _ in range(2):
        assert unmodified.step("LookDown")
    assert agent()["cameraHorizon"] == 60 and not unmodified.step("LookDown") and agent()["cameraHorizon"] == 60
    places = unmodified.step("GetReachablePositions").metadata["actionReturn"]
    assert unmodified.step("Teleport", position=places[3], rotation=90, horizon=0)
    assert (agent()["position"]["x"], agent()["rotation"]["y"]) == (places[3]["x"], 90)
    far = unmodified.step("Teleport", position={"x": 99, "y": 0.9, "z": 0})
    assert not far and "No agent can fit" in far.metadata["errorMessage"]
    for name in ("MoveAhead", "MoveBack", "MoveLeft", "MoveRight", "Pass", "Done"):
        before = agent()["position"]
        event = unmodified.step(name)
        moved = math.dist(tuple(before.values()), tuple(agent()["position"].values()))
        assert moved == pytest.approx(0.25 if event and name.startswith("Move") else 0)
    for name, arguments, sentence in (
        ("PickupObject", {"objectId": "x"}, "Invalid action: PickupObject"),
        ("RotateLeft", {"degree": 4}, "unexpected keyword argument 'degree'"),
        ("GetInteractablePoses", {}, "missing a required argument: 'objectId'"),
    ):
        with pytest.raises(ValueError, match=sentence):
            unmodified.step(name, **arguments)


def test_interactable_poses_are_those_that_see_the_object(unmodified):
    unmodified.reset("FloorPlan1")
    wanted = next(thing for thing in unmodified.last_event.metadata["objects"] if thing["objectType"] == "Toaster")
    identifier = wanted["objectId"]
    poses = unmodified.step("GetInteractablePoses", objectId=identifier, rotations=[0, 45, 90], horizons=[0])
    for pose in poses.metadata["actionReturn"][::7]:
        event = unmodified.step("TeleportFull", **pose_arguments(pose))
        assert event.get_object(identifier)["visible"]
    assert poses.metadata["actionReturn"]


def pose_arguments(pose):
    position = {axis: pose[axis] for axis in "xyz"}
    return {"position": position, "rotation": {"x": 0, "y": pose["rotation"], "z": 0}, "horizon": pose["horizon"], "standing": True}  # fmt: skip # noqa: E501


def test_a_turn_of_45_degrees_with_a_grid_is_refused_as_by_players_since_2022(unmodified):
    with pytest.raises(RuntimeError, match="Invalid values 'rotateStepDegrees': 45"):
        unmodified.reset("FloorPlan1", rotateStepDegrees=45)
    # The client remembers what it was given.
    unmodified.reset("FloorPlan1", rotateStepDegrees=90)


def test_third_party_cameras_see_from_where_they_stand(unmodified):
    unmodified.reset("FloorPlan201")
    metadata = unmodified.last_event.metadata
    rotation = {"x": 0, "y": metadata["agent"]["rotation"]["y"], "z": 0}
    unmodified.step("AddThirdPartyCamera", position=metadata["cameraPosition"], rotation=rotation, fieldOfView=90)
    event = unmodified.step("Pass")
    np.testing.assert_array_equal(event.third_party_camera_frames[0], event.frame)
    np.testing.assert_array_equal(event.third_party_depth_frames[0], event.depth_frame)
    np.testing.assert_array_equal(event.third_party_instance_segmentation_frames[0], event.instance_segmentation_frame)


def test_distance_and_visible_are_what_their_names_say(unmodified):
    event = unmodified.reset("FloorPlan301")
    agent = event.metadata["agent"]["position"]
    for thing in event.metadata["objects"]:
        place = tuple(thing["position"].values())
        assert thing["distance"] == pytest.approx(math.dist(place, tuple(agent.values())))
        if thing["visible"] and thing["objectType"] != "Floor":
            box = thing["axisAlignedBoundingBox"]
            away = [max(abs(box["center"][axis] - agent[axis]) - box["size"][axis] / 2, 0) for axis in "xz"]
            assert math.hypot(*away) <= 1.5


def test_the_wall_ahead_is_as_far_away_as_the_floor_plan_says(unmodified):
    unmodified.reset("FloorPlan401")
    room = make_room("FloorPlan401_physics")
    checked = 0
    for place in unmodified.step("GetReachablePositions").metadata["actionReturn"][::6]:
        event = unmodified.step("Teleport", position=place, rotation=0, horizon=0)
        wall = event.class_masks.mask("Wall")
        if wall is not None and wall[40, 60]:
            expected = room.center[1] + room.size[1] / 2 - place["z"]
            assert event.depth_frame[40, 60] == pytest.approx(expected, abs=1e-3)
            checked += 1
    assert checked >= 2


# --- rooms


@pytest.mark.parametrize("scene", SOME)
def test_a_room_is_a_pure_function_of_its_name(scene):
    one, other = make_room(scene), make_room(scene)
    assert one.things == other.things and one.start == other.start and one.size == other.size


@pytest.mark.parametrize("scene", SOME)
def test_rooms_hold_what_their_kind_must_and_everything_stands_on_something(scene):
    room = make_room(scene)
    kind = number_and_kind(scene)[1]
    types = {thing.type for thing in room.things}
    assert {item.type for item in CONTENTS[kind] if item.chance == 1} <= types
    assert types >= set(AVDC_TARGETS.get(scene.removesuffix("_physics"), ()))
    by_id = {thing.object_id: thing for thing in room.things}
    assert len(by_id) == len(room.things)
    for thing in room.things:
        low, high = thing.bounds
        assert (np.abs((low + high)[[0, 2]] / 2 - room.center) <= np.array(room.size) / 2).all()
        for parent in thing.parents:
            assert parent in by_id
            if thing.pickupable and by_id[parent].type in MODELS and MODELS[by_id[parent].type].surface:
                support = by_id[parent].position[1] + MODELS[by_id[parent].type].surface[2]
                assert low[1] == pytest.approx(support, abs=0.1), thing.object_id


@pytest.mark.parametrize("scene", SOME)
def test_the_agent_stands_where_it_fits_and_walks_where_nothing_is(scene):
    room = make_room(scene)
    ground = Floor(room)
    places = np.array(ground.reachable(room.start, 0.25))
    assert tuple(places[0]) == room.start and ground.fits(places).all() and len(places) >= 16
    things = [thing for thing in room.things if thing.solid and thing.bounds.low[1] < 1.5]
    for thing in things:
        if any(block.shape != "box" for block in thing.blocks):
            continue
        low, high = thing.bounds
        away = np.maximum(np.maximum(low[[0, 2]] - places, places - high[[0, 2]]), 0)
        # Of legs and shelves only the bounds are looked at here.
        if len(thing.blocks) == 1:
            assert np.hypot(*away.T).min() >= 0.2 - 1e-6
    rng = np.random.default_rng(0)
    for place in places[rng.integers(len(places), size=5)]:
        neighbours = [tuple(place + step) for step in ([0.25, 0], [-0.25, 0], [0, 0.25], [0, -0.25])]
        reached = {tuple(np.round(other, 4)) for other in places}
        for other in neighbours:
            assert ground.is_free(tuple(place), other) == (tuple(np.round(other, 4)) in reached)


def test_reachable_places_are_the_same_from_each_of_them():
    room = make_room(SOME[1])
    ground = Floor(room)
    first = ground.reachable(room.start, 0.25)
    again = ground.reachable(first[-1], 0.25)
    assert again[0] == pytest.approx(first[-1])
    assert {tuple(np.round(place, 4)) for place in first} == {tuple(np.round(place, 4)) for place in again}


def test_every_surface_has_texture_for_flow_to_hold_on_to():
    for name in MATERIALS:
        picture = paint(name, "FloorPlan1_physics", 1)
        assert picture.std(axis=(0, 1)).max() > 2, name
    assert (paint("wall", "FloorPlan1_physics", 1) != paint("wall", "FloorPlan2_physics", 1)).any()


def test_all_rooms_have_names_and_avdcs_are_among_them():
    assert len(SCENES) == 120 and set(AVDC_TARGETS) <= {scene.removesuffix("_physics") for scene in SCENES}
    with pytest.raises(ValueError, match="there is no scene 'FloorPlan31'"):
        number_and_kind("FloorPlan31")
    assert len(ACTIONS) == 4


@pytest.mark.slow
def test_all_120_rooms_can_be_furnished():
    for scene in SCENES:
        assert len(make_room(scene).things) >= 18


def test_leaving_out_what_is_outside_the_picture_changes_no_pixel(opengl, monkeypatch):
    from flowbench.envs.ithor.standin.painter import Canvas, Eye, Painter

    canvas, rng = Canvas(96, 64), np.random.default_rng(0)
    painter = Painter(make_room(SOME[0]))
    eyes = [
        Eye(tuple(rng.uniform([-2, 0.3, -2], [2, 2.3, 2])), *rng.uniform(-60, 60, 3), rng.uniform(30, 110))
        for _ in range(40)
    ]
    some = [painter.draw(canvas, eye, ids=True) for eye in eyes]
    assert not painter._drawn.all()
    everything = Painter(painter.room)
    monkeypatch.setattr(Painter, "_leave_out", lambda *_: None)
    for eye, one in zip(eyes, some, strict=True):
        for picture, other in zip(one, everything.draw(canvas, eye, ids=True), strict=True):
            np.testing.assert_array_equal(picture, other)
    canvas.close()
