"""The suites as data, compared with what upstream installs."""

import re

import pytest

from flowbench.registry import get_suite

pytest.importorskip("libero", reason="needs flowbench[libero]")

from flowbench.envs.libero import upstream
from flowbench.envs.libero.init_states import load_init_states
from flowbench.envs.libero.suites import SCENE_VIEWS, TASKS, VIEWS

SUITES = {
    "libero-spatial": "libero_spatial",
    "libero-object": "libero_object",
    "libero-goal": "libero_goal",
    "libero10": "libero_10",
    "libero90": "libero_90",
}
HORIZONS = {"libero-spatial": 220, "libero-object": 280, "libero-goal": 300, "libero10": 520, "libero90": 400}


@pytest.fixture(scope="module")
def benchmarks():
    upstream.load()
    with upstream.quiet():
        from libero.libero.benchmark import get_benchmark

        return {name: get_benchmark(folder)() for name, folder in SUITES.items()}


@pytest.mark.parametrize("name", SUITES)
def test_tasks_and_instructions_are_upstreams_in_upstreams_order(name, benchmarks):
    suite, benchmark = get_suite(name), benchmarks[name]
    ours = [(task.name, task.instruction) for task in suite.tasks]
    theirs = [(benchmark.get_task(i).name, benchmark.get_task(i).language) for i in range(benchmark.get_num_tasks())]
    assert len(ours) == (90 if name == "libero90" else 10)
    assert ours == theirs


def test_no_two_of_the_130_tasks_share_a_name():
    names = [task for tasks in TASKS.values() for task in tasks]
    assert len(names) == len(set(names)) == 130


@pytest.mark.parametrize("name", SUITES)
def test_targets_are_upstreams_objects_of_interest(name):
    upstream.load()
    from libero.libero.envs.bddl_utils import robosuite_parse_problem

    surfaces = {"table", "kitchen_table", "living_room_table", "study_table", "floor"}
    for task in get_suite(name).tasks:
        problem = robosuite_parse_problem(str(upstream.bddl_file(task.name)))
        background = {thing for category in surfaces for thing in problem["fixtures"].get(category, ())}
        expected = []
        for thing in problem["obj_of_interest"]:
            thing = problem["regions"][thing]["target"] if thing in problem["regions"] else thing
            if thing not in background and thing not in expected:
                expected.append(thing)
        assert list(task.targets) == expected != [], task.name


@pytest.mark.parametrize("name", SUITES)
def test_every_task_has_fifty_official_initial_states(name):
    suite = get_suite(name)
    assert suite.init_states == 50
    for task in suite.tasks:
        states = load_init_states(upstream.init_states_file(task.name))
        assert states.shape[0] == 50, task.name


@pytest.mark.parametrize("name", SUITES)
def test_protocols_are_the_published_ones(name):
    suite = get_suite(name)
    openvla, libero = suite.rules(), suite.rules("libero")
    assert (openvla.name, openvla.horizon, openvla.settle_steps, openvla.episodes) == (
        "openvla",
        HORIZONS[name],
        10,
        50,
    )
    assert (libero.horizon, libero.settle_steps, libero.episodes) == (600, 5, 20)
    assert suite.image_size == (256, 256) and suite.default_view == "agentview"


@pytest.mark.parametrize("name, index", [("libero-spatial", 0), ("libero-object", 0), ("libero10", 0), ("libero10", 5)])
def test_declared_cameras_are_the_scenes_cameras(name, index, simulators):
    assert sorted(simulators(name, index).views) == sorted(get_suite(name).views)


def test_suites_know_which_cameras_their_scenes_lack():
    assert set(SCENE_VIEWS) - set(VIEWS) == {"paperview"}
    assert "paperview" not in get_suite("libero-goal").views


def scene_of(task):
    return re.match(r"([A-Z_]*SCENE\d+)?", task.name).group()


@pytest.mark.slow
@pytest.mark.parametrize("name", SUITES)
def test_every_scene_has_the_declared_cameras_and_takes_its_initial_states(name, simulators):
    from flowbench.task import Scenario

    suite = get_suite(name)
    # Every third of libero90: its tasks come scene by scene, and a scene's tasks differ in little but the goal.
    every = 3 if name == "libero90" else 1
    assert {scene_of(task) for task in suite.tasks[::every]} == {scene_of(task) for task in suite.tasks}
    for index, task in list(enumerate(suite.tasks))[::every]:
        simulator = simulators(name, index)
        assert sorted(simulator.views) == sorted(suite.views), task.name
        assert set(task.targets) <= set(simulator.segmentation_names().values()), task.name
        for init_state in range(50):
            simulator.reset(Scenario(0, init_state))
