"""Fixtures for tests that run the real LIBERO."""

import contextlib

import numpy as np
import pytest

from flowbench.camera import CameraPose
from flowbench.registry import get_suite
from flowbench.simulator import RenderSettings

SIZE = 256


@pytest.fixture(scope="session")
def simulators():
    """Build simulators by suite and task index, and keep the last few: compiling a scene takes seconds."""
    kept = {}

    def get(suite_name, index, protocol=None):
        key = (suite_name, index, protocol)
        if key not in kept:
            if len(kept) == 2:
                kept.pop(next(iter(kept))).close()
            suite = get_suite(suite_name)
            kept[key] = suite.make_simulator(suite.tasks[index], suite.rules(protocol), RenderSettings(SIZE, SIZE))
        return kept[key]

    yield get
    for simulator in kept.values():
        simulator.close()


class Upstream:
    """Upstream's own environment of a task, reset, stepped and rendered by upstream's own code."""

    def __init__(self, env, states):
        self.env = env
        self.states = states

    def start(self, seed, init_state):
        """Start an episode as published evaluations do; the environment must be fresh."""
        self.env.seed(seed)
        self.env.reset()
        return self.env.set_init_state(self.states[init_state])

    def observe_now(self):
        """Observe the state as it is, instead of the sample that upstream took during the last control step."""
        simulation = self.env.env.sim
        simulation._render_context_offscreen.gl_ctx.make_current()
        simulation.forward()
        return self.env.env._get_observations(force_update=True)


@pytest.fixture
def make_upstream():
    """Give a function that builds upstream's environment of a task, with or without cameras."""
    from flowbench.envs.libero import upstream
    from flowbench.envs.libero.init_states import load_init_states

    control_env = upstream.load()
    with contextlib.ExitStack() as stack:

        def make(task_name, *, cameras=()):
            settings = {"has_offscreen_renderer": bool(cameras), "use_camera_obs": bool(cameras)}
            if cameras:
                settings |= {"camera_names": list(cameras), "camera_heights": SIZE, "camera_widths": SIZE}
            with upstream.numpy_random(12345), upstream.quiet():
                env = control_env(bddl_file_name=str(upstream.bddl_file(task_name)), **settings)
            stack.callback(env.close)
            return Upstream(env, load_init_states(upstream.init_states_file(task_name)))

        yield make


@pytest.fixture(scope="session")
def look():
    """Give a function that renders a camera pose written as text, and returns the frame and its calibration."""

    def look(simulator, camera, *modalities):
        pose = CameraPose.parse(camera)
        params = pose.apply(simulator.view(pose.view), simulator.workspace_center_world, SIZE, SIZE)
        return simulator.render(pose.view, params, frozenset(modalities or ("rgb",))), params

    return look


@pytest.fixture(scope="session")
def physics_of():
    """Give a function that collects everything in which two environments in the same state agree, bit for bit."""

    def collect(control_env):
        model, data = control_env.env.sim.model._model, control_env.env.sim.data._data
        robot = control_env.env.robots[0]
        return {
            "time": np.array([data.time]),
            "positions": data.qpos.copy(),
            "velocities": data.qvel.copy(),
            "warm start": data.qacc_warmstart.copy(),
            "control": data.ctrl.copy(),
            "fixture positions": model.body_pos.copy(),
            "fixture orientations": model.body_quat.copy(),
            "site colours": model.site_rgba.copy(),
            "controller goal": np.append(robot.controller.goal_pos, robot.controller.goal_ori),
            "gripper command": np.resize(robot.gripper.current_action, 2),
        }

    return collect


@pytest.fixture(scope="session")
def assert_same():
    """Give a function that compares two such collections exactly."""

    def compare(one, other):
        assert one.keys() == other.keys()
        for name, value in one.items():
            np.testing.assert_array_equal(value, other[name], err_msg=name)

    return compare
