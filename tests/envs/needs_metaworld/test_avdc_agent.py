"""AVDC with perfect plans in Meta-World: the oracle leaves no trace, tracks find the true motion, mended faults are mended."""

import numpy as np
import pytest

pytest.importorskip("metaworld", reason="needs flowbench[metaworld]")
pytest.importorskip("cv2", reason="needs flowbench[agents]")

import flowbench
from flowbench.agents.avdc.agent import AvdcAgent
from flowbench.agents.planning.oracle import OraclePlanner

pytestmark = pytest.mark.usefixtures("opengl")


@pytest.fixture
def start():
    """Give a function that starts a scenario for an agent, and closes its environment afterwards."""
    opened = []

    def start(agent, task, camera, seed=0, **config):
        env = flowbench.make(
            "metaworld11",
            task,
            cameras=(camera,),
            modalities=agent.needs.modalities,
            lazy=True,
            privileged=True,
            **config,
        )
        opened.append(env)
        observation, _ = env.reset(seed=seed)
        agent.reset(env.task, env.cameras, seed)
        return env, observation

    yield start
    for env in opened:
        env.close()


def succeeds(agent, env, observation, steps=500):
    for _ in range(steps):
        observation, _, terminated, truncated, info = env.step(agent.act(observation))
        if terminated or truncated:
            break
    return info["is_success"]


def test_the_oracle_leaves_no_trace_in_the_simulator(start):
    agent = AvdcAgent("oracle", flow="exact", rule="robust")
    env, observation = start(agent, "hammer", "corner")
    before = env.get_state().simulator
    plan = agent.planner.plan(observation, 0)
    after = env.get_state().simulator
    assert np.array_equal(before.physics, after.physics)
    assert before.extras["attributes"].keys() == after.extras["attributes"].keys()
    body = plan.snapshots[0].bodies[observation.mask("hammer/HammerHandle")]
    lifted = [snapshot.body_to_world[np.bincount(body).argmax(), 2, 3] for snapshot in plan.snapshots]
    assert max(lifted) - lifted[0] > 0.05


def path_errors_m(start, task, camera, **arguments):
    """Return by how much the contact's path misses the object's true motion at each moment of the first plan."""
    agent = AvdcAgent("oracle", flow="exact", **arguments)
    env, observation = start(agent, task, camera)
    agent.act(observation)
    snapshots, mask = agent.plan.plan.snapshots, observation.mask(*env.task.targets)
    body = int(np.bincount(snapshots[0].bodies[mask]).argmax())
    contact = np.append(agent.plan.path_world[0], 1)
    truth = [(later.body_to_world[body] @ snapshots[0].world_to_body[body] @ contact)[:3] for later in snapshots]
    return np.linalg.norm(agent.plan.path_world - truth, axis=1)


def test_tracks_find_the_true_motion_where_the_published_chain_loses_it(start):
    ours = path_errors_m(start, "button-press", "corner", rule="robust")
    theirs = path_errors_m(start, "button-press", "corner", rule="paper")
    assert ours.max() < 0.01
    assert theirs.max() > 3 * ours.max()


def test_mirrored_images_give_the_same_path(start):
    paths = []
    for view in ("geometric", "policy"):
        agent = AvdcAgent("oracle", flow="exact", rule="robust")
        env, observation = start(agent, "assembly", "corner", image_view=view)
        assert env.cameras["corner"].mirrored == (view == "policy")
        agent.act(observation)
        paths.append(agent.plan.path_world)
    assert np.allclose(*paths, atol=0.003)


def test_a_button_from_above_is_pressed_by_the_robust_rule_alone(start):
    results = {}
    for rule in ("paper", "robust"):
        agent = AvdcAgent("oracle", flow="exact", rule=rule, max_replans=0)
        env, observation = start(agent, "button-press-topdown", "corner2")
        results[rule] = succeeds(agent, env, observation, steps=150)
    assert results == {"paper": False, "robust": True}


def test_a_hammer_is_grasped_with_exact_motion(start):
    agent = AvdcAgent("oracle", flow="exact-motion", rule="robust")
    env, observation = start(agent, "hammer", "corner3", seed=1)
    assert succeeds(agent, env, observation)
    assert [record.mode for record in agent.plans][0] == "grasp"


def test_exact_motion_of_a_handle_goes_straight_down(start):
    agent = AvdcAgent("oracle", flow="exact-motion", rule="paper")
    env, observation = start(agent, "handle-press", "corner")
    agent.act(observation)
    path = agent.plan.path_world
    assert agent.gave_up == "" and np.ptp(path[:, :2], axis=0).max() == 0 and path[0, 2] - path[-1, 2] > 0.05


def test_the_oracle_planner_can_be_used_on_its_own(start):
    planner = OraclePlanner(frames=3, snapshots=False)
    agent = AvdcAgent("oracle", flow="dis")
    env, observation = start(agent, "door-close", "corner")
    planner.reset(env.task)
    plan = planner.plan(observation, 0)
    assert plan.frames.shape == (3, 240, 320, 3) and plan.snapshots is None
