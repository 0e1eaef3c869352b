"""Agents that plan, on the stand-in: perfect plans are carried out, and every agent keeps the contract."""

import numpy as np
import pytest

pytest.importorskip("ai2thor")
pytest.importorskip("cv2")

import flowbench
from flowbench.agent import ActionChunker
from flowbench.agents.avdc.agent import AvdcAgent
from flowbench.agents.avdc.random_plan import RandomPlanAgent
from flowbench.registry import make_agent
from flowbench.testing import check_agent

SUITE = "ithor12-standin"


@pytest.fixture(scope="module")
def episode(opengl):
    """Give a function that runs an agent for an episode in one room, and says what it did and whether it arrived."""
    env = flowbench.make(
        SUITE, "Toaster", cameras=("agent",), modalities=("rgb", "depth", "calibration"), lazy=True, privileged=True
    )

    def run(agent, seed=0, steps=50):
        observation, info = env.reset(seed=seed)
        chunker = ActionChunker(agent)
        chunker.reset(env.task, env.cameras, seed)
        actions = []
        for _ in range(steps):
            actions.append(int(chunker.act(observation).item()))
            observation, _, terminated, truncated, info = env.step(actions[-1:])
            if terminated or truncated:
                break
        return actions, info["is_success"], env.simulator

    yield run
    env.close()


# --- perfect plans


@pytest.mark.parametrize("flow", ["exact-motion", "exact"])
@pytest.mark.parametrize("rule", ["paper", "robust"])
def test_a_perfect_plan_is_carried_out(episode, rule, flow):
    agent = AvdcAgent("oracle", flow=flow, rule=rule)
    actions, arrived, _ = episode(agent)
    assert arrived and actions[-1] == 3 and 2 <= len(agent.plans) < len(actions)
    assert agent.episode_metrics()["gave_up"] == 0


def test_perfect_plans_show_every_action_and_leave_no_trace(episode):
    agent = AvdcAgent("oracle", flow="exact", rule="robust", planner_args={"render": True})
    agent.record_plans = True
    _, _, simulator = episode(agent, steps=1)
    before = simulator.get_state().physics
    plan = agent.plan.plan
    assert plan.frames.shape == (8, 64, 64, 3) and len(plan.snapshots) == 8
    where = np.stack([snapshot.camera.camera_to_world for snapshot in plan.snapshots])
    lengths_m = np.linalg.norm(np.diff(where[:, :3, 3], axis=0), axis=1)
    turns = [np.trace(a[:3, :3].T @ b[:3, :3]) for a, b in zip(where, where[1:])]
    for length_m, trace in zip(lengths_m, turns):
        turned = trace == pytest.approx(1 + 2 * np.cos(np.pi / 4), abs=1e-3)
        assert turned or min(abs(length_m - known) for known in (0, 0.25, 0.25 * 2**0.5)) < 1e-3
    (drawn,) = agent.recorded_plans()
    assert drawn.points_px.shape[:2] == drawn.live.shape and "MoveAhead" in drawn.title or "Rotate" in drawn.title
    # The plan was made and taken back; then one action was carried out.
    agent.planner.plan(_observation(simulator), 0)
    assert np.array_equal(simulator.get_state().physics, before)


def _observation(simulator):
    from flowbench.camera import CameraPose
    from flowbench.observation import Observation

    camera = CameraPose("agent").apply(simulator.view("agent"), simulator.workspace_center_world, 64, 64)
    read = {"proprio": simulator.proprio()}
    return Observation(("proprio",), lambda key: read, {"agent": lambda: camera}, "Toaster", 1, simulator)


# --- demonstrations as plans


def test_the_nearest_picture_of_all_is_shown_with_what_follows_it(episode, walks):
    agent = AvdcAgent("retrieval", flow="dis", rule="robust", checkpoint=str(walks), plan_cache=False)
    actions, _, _ = episode(agent, seed=10_000, steps=8)
    reader = agent.planner._reader
    recorded = reader.read(0, "actions", slice(None)).ravel().astype(int)
    # It starts where the demonstration did, so that is what it is shown: consecutive pictures, the last again and again.
    plan = agent.plans[0].plan.frames
    shown = reader.read(0, "agent/rgb", slice(None))
    assert all(np.array_equal(plan[index], shown[min(index, len(shown) - 1)]) for index in range(8))
    assert set(actions) <= {0, 1, 2, 3} and len(recorded) > 3


# --- the contract


def agents(walks):
    yield "random-plan", lambda: RandomPlanAgent(rule="robust")
    yield "avdc", lambda: AvdcAgent("oracle", flow="exact", rule="paper", planner_args={"frames": 3})
    yield "avdc-retrieval", lambda: AvdcAgent("retrieval", checkpoint=str(walks), plan_cache=False)
    for name in ("random", "zero", "done-at-once", "scripted"):
        yield name, lambda name=name: make_agent(name, {})


def test_every_agent_keeps_the_contract(walks):
    for name, factory in agents(walks):
        check_agent(factory, suite=SUITE, task="Toaster", steps=1)
        assert name
