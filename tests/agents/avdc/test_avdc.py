"""The agent with every part, on the toy: what it asks for, what it refuses, what it counts."""

import numpy as np
import pytest

import flowbench
from flowbench.agents.avdc.agent import AvdcAgent, _miss_m
from flowbench.agents.avdc.object_points import ObjectUnseen, object_targets, published_points, surface_points
from flowbench.agents.avdc.plan_flow import PlanFlow
from flowbench.agents.avdc.random_plan import RandomPlanAgent
from flowbench.agents.geometry.tracking import follow
from flowbench.agents.planning import Plan, Window
from flowbench.camera import CameraParams, look_at
from flowbench.errors import BadValue, UnknownName
from flowbench.registry import get_suite, make_agent
from flowbench.testing import check_agent

CAMERA = CameraParams.from_fovy(45, look_at(np.array([0, -1.0, 1.0]), np.zeros(3)), 64, 48)


def episode(agent, task="push", seed=0, steps=40):
    """Run an episode, or its first steps; return whether it succeeded."""
    env = flowbench.make(
        "toy", task, cameras=("front",), modalities=agent.needs.modalities, lazy=True, privileged=agent.needs.privileged
    )
    observation, info = env.reset(seed=seed)
    agent.reset(env.task, env.cameras, seed)
    for _ in range(steps):
        observation, _, terminated, truncated, info = env.step(agent.act(observation))
        if terminated or truncated:
            break
    env.close()
    return info["is_success"]


#: Four moments are enough for a contract.
SHORT = {"frames": 4}
PARTS = {
    "published": {"flow": "exact", "rule": "paper"},
    "robust": {"flow": "exact", "rule": "robust"},
    "exact motion": {"flow": "exact-motion", "rule": "robust"},
}


@pytest.mark.parametrize("name", PARTS)
def test_the_agent_keeps_the_contract_with_every_part(name):
    check_agent(lambda: AvdcAgent("oracle", **PARTS[name], planner_args=SHORT), task="push", steps=2)


def test_estimated_flow_keeps_the_contract():
    pytest.importorskip("cv2")
    arguments = {"frames": 2, "max_steps": 20}
    check_agent(lambda: AvdcAgent("oracle", flow="dis", rule="robust", planner_args=arguments), task="push", steps=1)


def test_it_lifts_a_block_with_a_perfect_plan_and_exact_flow():
    assert episode(AvdcAgent("oracle", flow="exact", rule="robust"), "lift", steps=100)


def test_it_asks_only_for_what_its_parts_read():
    exact = AvdcAgent("oracle", flow="exact")
    assert exact.needs.privileged and set(exact.needs.modalities) == {"depth", "calibration", "segmentation"}
    control = RandomPlanAgent()
    assert not control.needs.privileged
    assert set(control.needs.modalities) == {"depth", "calibration", "segmentation"}
    assert "rgb" not in AvdcAgent("oracle", flow="dis").needs.modalities


def test_a_learned_mask_replaces_segmentation(monkeypatch):
    monkeypatch.setattr("flowbench.agents.avdc.agent.load_object", lambda name: red_things)
    agent = AvdcAgent("random-plan", masks="somewhere:red_things")
    assert set(agent.needs.modalities) == {"calibration", "depth", "rgb"}
    episode(agent, "reach", steps=3)
    assert len(agent.plans) == 1


def red_things(rgb, instruction):
    assert instruction == "move the gripper to the red ball"
    return (rgb[..., 0] > 100) & (rgb[..., 1:].max(axis=-1) < 80)


def test_it_counts_what_it_did():
    agent = AvdcAgent("oracle", flow="exact", rule="robust")
    episode(agent, steps=60)
    metrics = agent.episode_metrics()
    assert metrics["plans"] == len(agent.plans) == metrics["replans"] + 1
    assert metrics["planning_s"] > 0 and metrics["flow_s"] > 0 and metrics["motion_s"] > 0
    assert metrics["model_calls"] == 0 and metrics["gave_up"] == 0
    assert agent.plan is agent.plans[-1] and agent.plan.path_world.shape == (8, 3)


@pytest.mark.parametrize(("flow", "most_m"), [("exact", 0.02), ("dis", 1.0)])
def test_it_counts_how_far_off_its_reading_of_a_plan_is_where_the_truth_is_known(flow, most_m):
    pytest.importorskip("cv2")
    agent = AvdcAgent("oracle", flow=flow, rule="robust", variant="no-replan", planner_args={"max_steps": 40})
    episode(agent, "push", steps=2)
    metrics = agent.episode_metrics()
    assert 0 < metrics["plan_error_along_view_m"] <= metrics["plan_error_m"] < most_m


@pytest.mark.parametrize("arguments", [{"flow": "exact-motion"}, {"flow": "dis", "planner_args": {"snapshots": False}}])
def test_it_says_nothing_about_errors_that_nobody_can_know(arguments):
    pytest.importorskip("cv2")
    agent = AvdcAgent("oracle", rule="robust", variant="no-replan", **{"planner_args": {"frames": 3}, **arguments})
    episode(agent, "push", steps=1)
    assert "plan_error_m" not in agent.episode_metrics()


def test_an_error_along_the_view_is_the_part_of_it_that_a_picture_does_not_show():
    towards = np.array([0, 1.0, -1.0]) / np.sqrt(2)
    miss, along = _miss_m(0.1 * towards + [0.05, 0, 0], np.zeros(3), CAMERA)
    assert along == pytest.approx(0.1) and miss == pytest.approx(np.hypot(0.1, 0.05))


def test_no_replan_plans_once():
    agent = AvdcAgent("oracle", flow="exact", rule="robust", variant="no-replan")
    episode(agent, "push", steps=100)
    assert agent.episode_metrics()["plans"] == 1


def test_an_object_that_is_not_seen_is_given_up_as_a_failure(monkeypatch):
    agent = AvdcAgent("random-plan", rule="robust")
    monkeypatch.setattr(agent, "_mask", lambda observation: np.zeros((96, 128), bool))
    assert not episode(agent, steps=100)
    assert agent.gave_up == "the camera does not see the object that the task is about"
    assert agent.episode_metrics()["gave_up"] == 1 and not agent.plans


def test_plans_are_complete_only_when_they_are_recorded():
    agent = AvdcAgent("oracle", flow="exact", rule="robust")
    episode(agent, steps=2)
    assert agent.recorded_plans() == [] and agent.plan.chain is None
    agent.record_plans = True
    episode(agent, steps=2)
    (plan,) = agent.recorded_plans()
    assert plan.frames.shape == (8, 96, 128, 3) and plan.flow_px.shape == (7, 96, 128, 2)
    assert plan.points_px.shape[0] == plan.live.shape[0] == 8
    assert plan.title.startswith("plan 0 at step 0: ")


def test_what_is_done_does_not_depend_on_whether_plans_are_recorded():
    pytest.importorskip("torchvision", reason="needs flowbench[agents]")
    done, agents = [], []
    for record in (False, True):
        agent = AvdcAgent("oracle", flow="raft-small", rule="robust")
        agent.record_plans = record
        episode(agent, steps=6)
        agents.append(agent)
        done.append(agent.plan.motion.pixels)
    np.testing.assert_array_equal(*done)
    (plan,) = agents[1].recorded_plans()
    assert (np.abs(plan.flow_px).max(axis=(0, 3)) > 0).mean() > 0.5, (
        "a picture shows the flow of what is not followed, too"
    )


REFUSED = {
    "no planner": (
        {},
        BadValue,
        "Agent avdc needs something that plans: a trained video-diffusion (--checkpoint PATH)",
    ),
    "unknown planner": ({"planner": "oracel"}, UnknownName, "There is no planner 'oracel'. Did you mean 'oracle'?"),
    "unknown rule": ({"planner": "oracle", "rule": "papr"}, UnknownName, "has no rule 'papr'. Did you mean 'paper'?"),
    "unknown solver": ({"planner": "oracle", "solver": "svd"}, UnknownName, "Agent avdc has no solver 'svd'."),
    "unknown variant": ({"planner": "oracle", "variant": "fast"}, UnknownName, "Agent avdc has no variant 'fast'."),
    "negative replans": ({"planner": "oracle", "max_replans": -1}, BadValue, "max_replans is -1; give 0 or more."),
    "states from a planner without": (
        {"planner": "random-plan", "flow": "exact"},
        BadValue,
        "flow=exact reads the states of a plan, and planner random-plan imagines none. Use planner=oracle.",
    ),
    "unknown planner argument": (
        {"planner": "oracle", "planner_args": {"frame": 4}},
        UnknownName,
        "Planner oracle has no argument 'frame'. Did you mean 'frames'?",
    ),
    "a checkpoint for none": (
        {"planner": "oracle", "checkpoint": "x"},
        BadValue,
        "Planner oracle takes no checkpoint, but --checkpoint x was given.",
    ),
    "a missing checkpoint": ({"planner": "retrieval"}, BadValue, "Planner retrieval needs a checkpoint."),
}


@pytest.mark.parametrize("name", REFUSED)
def test_parts_that_do_not_fit_are_refused_in_one_sentence(name):
    arguments, error, sentence = REFUSED[name]
    with pytest.raises(error) as caught:
        make_agent("avdc", arguments)
    assert sentence in str(caught.value)


def test_the_control_pushes_in_another_direction_each_time():
    directions = []
    for seed in range(3):
        agent = RandomPlanAgent()
        agent.record_plans = True
        episode(agent, seed=seed, steps=1)
        flow = agent.plan.plan.flow_px
        assert np.ptp(flow.reshape(-1, 2), axis=0).max() == 0
        assert np.linalg.norm(flow[0, 0, 0]) == pytest.approx(3, abs=1e-5)
        directions.append(tuple(flow[0, 0, 0]))
    assert len(set(directions)) == 3


# --- the object in the first frame


def test_the_object_is_the_body_of_the_first_target():
    metaworld, libero = get_suite("metaworld11"), get_suite("libero-object")
    assert object_targets(metaworld.task("door-close")) == ("door_link/door", "door_link/handle")
    task = libero.tasks[0]
    assert len(task.targets) == 2 and object_targets(task) == task.targets[:1]


def square():
    mask = np.zeros((48, 64), bool)
    mask[20:30, 28:40] = True
    depth_m = np.full((48, 64), 2.0, np.float32)
    depth_m[mask] = 1.0
    return mask, depth_m


def test_published_points_mix_object_and_background_at_its_outline():
    pytest.importorskip("cv2")
    mask, depth_m = square()
    rng = np.random.default_rng(0)
    points = published_points(mask, depth_m, CAMERA, rng, faithful=True)
    assert points.pixels.shape == (500, 2)
    depths = CAMERA.project(points.points_world).depth_m
    assert depths.min() == pytest.approx(1) and depths.max() > 1.3
    assert CAMERA.project(points.contact_world).depth_m == pytest.approx(1)


def test_published_points_of_nothing_are_those_of_everything_else():
    pytest.importorskip("cv2")
    _, depth_m = square()
    nothing = np.zeros((48, 64), bool)
    points = published_points(nothing, depth_m, CAMERA, np.random.default_rng(0), faithful=True)
    assert np.ptp(points.pixels, axis=0).min() > 40
    with pytest.raises(ObjectUnseen):
        published_points(nothing, depth_m, CAMERA, np.random.default_rng(0), faithful=False)


def test_our_points_lie_on_the_object_and_the_contact_behind_its_surface():
    mask, depth_m = square()
    known = np.ones_like(mask)
    points = surface_points(mask, known, depth_m, CAMERA, np.random.default_rng(0))
    assert len(points.pixels) == mask.sum()
    assert CAMERA.project(points.points_world).depth_m == pytest.approx(np.ones(mask.sum()))
    assert CAMERA.project(points.contact_world).depth_m == pytest.approx(1.015, abs=0.001)


def test_our_points_lie_where_flow_is_known_unless_it_is_known_nowhere():
    mask, depth_m = square()
    known = np.zeros_like(mask)
    known[:, :36] = True
    inside = surface_points(mask, known, depth_m, CAMERA, np.random.default_rng(0)).pixels
    assert inside[:, 0].max() < 36 and len(inside) < mask.sum()
    assert len(surface_points(mask, ~known & False, depth_m, CAMERA, np.random.default_rng(0)).pixels) == mask.sum()


# --- flow of a plan on the observed image


def test_flow_of_a_small_plan_is_scaled_to_its_window_and_zero_outside():
    pytest.importorskip("cv2")
    flow_px = np.ones((2, 8, 8, 2), np.float32) * [1, 2]
    plan = Plan("x", 0, Window(16, 8, 32, 32), flow_px=flow_px.astype(np.float32))
    chain = PlanFlow("dis").load().read(plan, CAMERA)
    assert chain.forward_px.shape == (2, 48, 64, 2) and chain.backward_px is None
    assert np.array_equal(chain.inside[8:40, 16:48], np.ones((32, 32), bool)) and chain.inside.sum() == 32 * 32
    assert np.allclose(chain.forward_px[:, 8:40, 16:48], [4, 8]) and not chain.forward_px[:, :8].any()


def test_flow_is_read_in_the_middle_of_what_a_plan_shows():
    reader = PlanFlow("dis", crop_px=16).load()
    plan = Plan("x", 0, Window.of_camera(CAMERA), frames=np.zeros((3, 48, 64, 3), np.uint8))
    assert reader.window(plan, CAMERA) == Window(24, 16, 16, 16) == Window.centred(CAMERA, 16)
    assert reader.read(plan, CAMERA).inside.sum() == 256
    assert PlanFlow("dis", crop_px=128).load().window(plan, CAMERA) == Window.of_camera(CAMERA)


@pytest.mark.parametrize("shown", [1, 2])
@pytest.mark.parametrize("both_ways", [False, True])
def test_flow_is_estimated_only_where_an_object_passes_and_is_what_it_would_be_anywhere(shown, both_ways):
    pytest.importorskip("torchvision", reason="needs flowbench[agents]")
    camera = CameraParams.from_fovy(45, look_at(np.array([0, -1.0, 1.0]), np.zeros(3)), 128 * shown, 128 * shown)
    rng = np.random.default_rng(0)
    ground = np.kron(rng.integers(90, 130, (16, 16, 3)), np.ones((8, 8, 1)))
    block = np.kron(rng.integers(0, 255, (5, 5, 3)), np.ones((4, 4, 1)))
    frames = np.stack([ground] * 5).astype(np.uint8)
    for moment, frame in enumerate(frames):
        frame[50:70, 16 + 9 * moment : 36 + 9 * moment] = block
    mask = np.zeros((128 * shown, 128 * shown), bool)
    mask[52 * shown : 68 * shown, 18 * shown : 34 * shown] = True
    plan = Plan("x", 0, Window.of_camera(camera), frames=frames)
    reader = PlanFlow("raft-small", both_ways=both_ways).load()
    everywhere, near = reader.read(plan, camera), reader.read(plan, camera, mask)
    assert near.inside.all() and (near.backward_px is not None) == both_ways
    pixels = np.argwhere(mask)[:, ::-1].astype(float)
    for link in range(4):
        expected, found = follow(everywhere, link, pixels), follow(near, link, pixels)
        assert np.median(found.pixels - pixels, axis=0) == pytest.approx([9 * shown, 0], abs=1.5 * shown)
        assert np.abs(found.pixels - expected.pixels).mean() < 0.3 * shown
        assert np.abs(found.disagreement_px - expected.disagreement_px).mean() < 0.5 * shown
        pixels = found.pixels
    assert not near.forward_px[:, : 20 * shown].any(), "nothing is said about where it does not pass"
    nowhere = reader.read(plan, camera, np.zeros_like(mask))
    assert not nowhere.forward_px.any() and (nowhere.backward_px is not None) == both_ways


def test_flow_that_a_plan_does_not_hold_is_refused():
    frames = Plan("x", 0, Window.of_camera(CAMERA), frames=np.zeros((3, 48, 64, 3), np.uint8))
    with pytest.raises(BadValue, match="Exact flow is read from the states of a plan, and this planner imagines none."):
        PlanFlow("exact").load().read(frames, CAMERA)
