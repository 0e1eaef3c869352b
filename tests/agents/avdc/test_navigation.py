"""AVDC's navigation form: what the room does past the camera is found from flow, and turned back into the action that did it."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from flowbench.agents.avdc.agent import AvdcAgent
from flowbench.agents.avdc.feet import FEET, feet_of
from flowbench.agents.avdc.ladder import avdc_ladder
from flowbench.agents.avdc.scene_motion import explained_scene_motion, published_scene_motion
from flowbench.agents.avdc.walking import PublishedWalk, RobustWalk, nearest_choices, published_choices
from flowbench.agents.geometry.published_fit import NoMotion
from flowbench.agents.geometry.rigid_fit import fit_reprojection
from flowbench.agents.geometry.tracking import FlowChain
from flowbench.agents.planning.random_direction import RandomDirectionPlanner
from flowbench.camera import CameraParams, look_at, transform_points
from flowbench.envs.ithor.suites import ACTION_SPEC
from flowbench.errors import UnknownName
from flowbench.observation import Observation
from flowbench.registry import get_suite

FEET_OF_ITHOR = FEET["ithor-navigation"]
AHEAD, RIGHT, LEFT, DONE = range(4)
#: It stands anywhere: nothing may depend on where.
CAMERA = CameraParams.from_fovy(90, look_at(np.array([1.0, -2.0, 1.5]), np.array([0.0, 0.3, 1.2])), 64, 64)
HERE = replace(CAMERA, camera_to_world=np.eye(4))


def room_depth_m():
    """Return the depth of a corner of a room: two walls, a floor and a ceiling."""
    columns, rows = np.meshgrid(np.arange(64), np.arange(64))
    x, y = (columns - 31.5) / 32, (rows - 31.5) / 32
    with np.errstate(divide="ignore"):
        planes = [np.where(x > 0, 2.2 / np.abs(x), 1.6 / np.abs(x)), 1.5 / np.abs(y), np.full((64, 64), 3.5)]
    return np.minimum.reduce(planes).astype(np.float32)


def exact_chain(motions, depth_m, both_ways=True):
    """Return the flow of a room whose depth, seen from each moment, is that of a room that goes on for ever like the first."""
    columns, rows = np.meshgrid(np.arange(64), np.arange(64))
    pixels = np.stack([columns, rows], axis=-1).astype(np.float64)
    points = HERE.unproject(pixels, depth_m)
    forward, backward, before = [], [], np.eye(4)
    for motion in motions:
        # Where each pixel of the moment before looks at is found by following the first picture's points.
        now = motion @ before
        landing = HERE.project(transform_points(now, points))
        start = HERE.project(transform_points(before, points))
        flow = np.where((landing.depth_m > 0)[..., None], landing.pixels - start.pixels, np.nan)
        forward.append(nearest(start.pixels, start.depth_m, flow))
        backward.append(nearest(landing.pixels, landing.depth_m, -flow))
        before = now
    return FlowChain(np.stack(forward), np.ones((64, 64), bool), np.stack(backward) if both_ways else None)


def nearest(pixels, ahead_m, values):
    """Return an image of values that are known at scattered places, by the nearest of them."""
    from scipy.interpolate import NearestNDInterpolator

    known = (ahead_m > 0) & np.all(np.abs(pixels - 31.5) < 60, axis=-1) & np.isfinite(values).all(axis=-1)
    columns, rows = np.meshgrid(np.arange(64), np.arange(64))
    return NearestNDInterpolator(pixels[known], values[known])(columns, rows).astype(np.float32)


def step(choice, length=0):
    return [step.scene_motion for step in FEET_OF_ITHOR.steps if step.choice == choice][length]


def scene_motion(solver, motions, depth_m):
    chain = exact_chain(motions, depth_m)
    if solver == "explained":
        return explained_scene_motion(chain, depth_m, CAMERA, FEET_OF_ITHOR.steps)
    fit = fit_reprojection if solver == "fitted" else None
    return published_scene_motion(chain, depth_m, CAMERA, np.random.default_rng(0), fit=fit)


# --- from flow to the room's motion


@pytest.mark.parametrize("solver", ["fitted", "published", "explained"])
@pytest.mark.parametrize("choice", [RIGHT, LEFT])
def test_a_pure_turn_by_45_degrees_is_recovered_from_exact_flow(solver, choice):
    (link,) = scene_motion(solver, [step(choice)], room_depth_m()).links
    turn = Rotation.from_matrix(link[:3, :3]).as_rotvec(degrees=True)
    assert turn == pytest.approx([0, -45 if choice == RIGHT else 45, 0], abs=0.5)
    assert link[:3, 3] == pytest.approx([0, 0, 0], abs=0.01)


@pytest.mark.parametrize("solver", ["fitted", "explained"])
@pytest.mark.parametrize("length", [0, 1])
def test_a_step_ahead_is_recovered_straight_and_across_the_grid(solver, length):
    (link,) = scene_motion(solver, [step(AHEAD, length)], room_depth_m()).links
    assert link[:3, 3] == pytest.approx([0, 0, -(0.25, 0.25 * 2**0.5)[length]], abs=0.01)


def test_points_are_followed_until_too_few_are_left():
    motions = [step(AHEAD), step(RIGHT), step(RIGHT), step(RIGHT)]
    for solver in ("fitted", "explained"):
        found = scene_motion(solver, motions, room_depth_m())
        assert 2 <= len(found.links) < 4, "half of the picture is gone after each turn"
        assert found.live.shape == (5, found.pixels.shape[1]) and not found.live[len(found.links) + 1 :].any()
        assert np.isnan(found.pixels[~found.live]).all() and np.isfinite(found.pixels[found.live]).all()
        counts = found.live.sum(axis=1)
        assert all(after <= before for before, after in zip(counts, counts[1:]))


def test_where_nothing_moves_the_whole_picture_says_so():
    found = published_scene_motion(
        exact_chain([np.eye(4)], room_depth_m()), room_depth_m(), CAMERA, np.random.default_rng(0), fit=fit_reprojection
    )
    assert found.links[0] == pytest.approx(np.eye(4), abs=1e-6) and np.ptp(found.pixels[0], axis=0).min() > 60


def test_flow_that_no_action_explains_is_not_read():
    depth_m = room_depth_m()
    noise = np.random.default_rng(0).normal(scale=20, size=(1, 64, 64, 2)).astype(np.float32)
    assert not len(
        explained_scene_motion(FlowChain(noise, np.ones((64, 64), bool)), depth_m, CAMERA, FEET_OF_ITHOR.steps).links
    )


@pytest.mark.parametrize("solver", ["fitted", "explained"])
def test_a_picture_without_depth_is_not_read(solver):
    depth_m = np.zeros((64, 64), np.float32)
    chain = FlowChain(np.zeros((2, 64, 64, 2), np.float32), np.ones((64, 64), bool))
    if solver == "explained":
        found = explained_scene_motion(chain, depth_m, CAMERA, FEET_OF_ITHOR.steps)
    else:
        found = published_scene_motion(chain, depth_m, CAMERA, np.random.default_rng(0), fit=fit_reprojection)
    assert found.links.shape == (0, 4, 4)


# --- from the room's motion to choices


@pytest.mark.parametrize("read", [published_choices, nearest_choices])
def test_the_motion_of_every_action_gives_the_action_back(read):
    for known in FEET_OF_ITHOR.steps:
        assert read(known.scene_motion[None], FEET_OF_ITHOR) == [known.choice]


def test_names_are_those_of_the_suite():
    assert FEET_OF_ITHOR.choices == ACTION_SPEC.choices and ACTION_SPEC.convention in FEET


def test_the_published_rule_turns_from_20_centimetres_on_and_ends_where_the_point_stands_still():
    motion = np.eye(4)
    sideways = []
    for x in (0.19, 0.21, -0.21, 0.002, 0.0005):
        motion[0, 3] = x
        sideways += published_choices(motion[None], FEET_OF_ITHOR)
    assert sideways == [AHEAD, LEFT, RIGHT, AHEAD, DONE]
    links = np.stack([step(AHEAD), step(DONE), step(LEFT)])
    assert published_choices(links, FEET_OF_ITHOR) == [AHEAD, DONE], "nothing after the end"


def test_a_bump_is_the_end_to_the_published_rule_and_left_out_by_ours():
    links = np.stack([step(AHEAD), step(DONE), step(LEFT), step(DONE)])
    published, robust = PublishedWalk(FEET_OF_ITHOR), RobustWalk(FEET_OF_ITHOR)
    assert published.take(links) == [AHEAD, DONE]
    assert published.command().tolist() == [[AHEAD], [DONE]]
    assert robust.take(links) == [AHEAD, LEFT, DONE]
    assert [robust.command().item() for _ in range(3)] == [AHEAD, LEFT, DONE]


def test_ours_plans_again_when_a_step_had_no_effect():
    walk = RobustWalk(FEET_OF_ITHOR)
    went, bumped = np.array([0.0, 1.0]), np.array([0.0, 0.0])
    assert walk.wants_plan(went)
    walk.take(np.stack([step(AHEAD), step(AHEAD)]))
    walk.command()
    assert not walk.wants_plan(went) and walk.wants_plan(bumped)
    assert PublishedWalk(FEET_OF_ITHOR).wants_plan(went)


def test_a_plan_of_which_nothing_is_read_gives_up_where_the_published_loop_hangs_and_turns_otherwise():
    nothing = np.zeros((0, 4, 4))
    with pytest.raises(NoMotion, match="of the plan not even the first motion could be read"):
        PublishedWalk(FEET_OF_ITHOR).take(nothing)
    for walk in (PublishedWalk(FEET_OF_ITHOR, faithful=False), RobustWalk(FEET_OF_ITHOR)):
        assert walk.take(nothing) == [RIGHT] and walk.command().ravel().tolist() == [RIGHT]


def test_a_convention_that_nobody_walks_by_is_named():
    with pytest.raises(UnknownName) as caught:
        feet_of("ithor-navigatoin")
    assert "AVDC's navigation form has no way of walking for action convention 'ithor-navigatoin'." in str(caught.value)
    assert "Did you mean 'ithor-navigation'?" in str(caught.value)


# --- the agent, without a simulator


def observation(depth_m=None, effect=1.0):
    arrays = {
        "agent/depth": room_depth_m() if depth_m is None else depth_m,
        "proprio": np.array([0.0, effect], np.float32),
    }
    return Observation(tuple(arrays), lambda key: {key: arrays[key]}, {"agent": lambda: CAMERA}, "Toaster", 0)


def agent_in(task="Toaster", **arguments):
    agent = AvdcAgent("random-plan", **arguments)
    agent.reset(get_suite("ithor12-standin").task(task), {"agent": CAMERA}, 3)
    return agent


def test_the_control_walks_and_never_arrives():
    planner = RandomDirectionPlanner()
    planner.reset(get_suite("ithor12-standin").tasks[0])
    flows = [planner.plan(observation(), seed).flow_px for seed in range(12)]
    assert all(flow.shape == (7, 64, 64, 2) for flow in flows)
    agents = {rule: agent_in(rule=rule) for rule in ("paper", "robust")}
    for rule, agent in agents.items():
        read = set()
        for seed in range(12):
            agent.reset(agent._task, {"agent": CAMERA}, seed)
            read.add(int(agent.act(observation()).ravel()[0]))
        assert read == {AHEAD, RIGHT, LEFT}, rule


def test_the_published_rule_carries_out_all_of_a_plan_and_ours_looks_at_every_step():
    paper, robust = agent_in(rule="paper"), agent_in(rule="robust")
    chunk = paper.act(observation())
    assert chunk.ndim == 2 and len(chunk) >= 1 and chunk.shape[1] == 1
    assert robust.act(observation()).shape == (1,)
    assert paper.episode_metrics()["plans"] == robust.episode_metrics()["plans"] == 1
    assert set(paper.plan.mode.split(", ")) <= set(ACTION_SPEC.choices)


def test_without_depth_the_published_rule_gives_up_and_says_why():
    agent = agent_in(rule="paper")
    assert agent.act(observation(np.zeros((64, 64), np.float32))).tolist() == [DONE]
    assert agent.gave_up == "of the plan not even the first motion could be read"
    assert agent.episode_metrics()["gave_up"] == 1


def test_without_replans_the_end_of_the_plan_is_the_end():
    agent = agent_in(rule="paper", max_replans=0)
    agent.act(observation())
    assert agent.act(observation()).tolist() == [DONE] and agent.episode_metrics()["plans"] == 1


# --- the ladder


def test_the_ladder_of_navigation_has_its_own_controls():
    rungs = avdc_ladder(suite="ithor12-standin", rules=["robust"], planner="retrieval", checkpoint=__file__)
    assert [rung.name for rung in rungs] == [
        "robust-exact-motion",
        "robust-exact-flow",
        "robust-estimated-flow",
        "robust-imagined-plan",
        "robust-random-plan",
        "random",
        "done-at-once",
    ]
    assert rungs[0].says == "true motion of the camera"
    assert [rung.part for rung in rungs[-3:]] == [None, None, None]
