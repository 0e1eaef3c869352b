"""Pictures made after the fact are the pictures that were there."""

import h5py
import numpy as np
import pytest

from flowbench.data.rendering import observe_states, rendering_env
from flowbench.data.states import StateRows
from flowbench.env import EnvConfig
from flowbench.errors import RenderingUnavailable
from flowbench.registry import get_suite, make
from flowbench.simulator import MODALITIES
from flowbench.task import Scenario

#: Suite, task, module it needs, scenario, cameras; among the tasks those whose pictures depend on more than positions.
CASES = {
    "toy": ("toy", "push", "numpy", Scenario(3), ("front+yaw5", "wrist")),
    # Upstream moves a goal's marker at reset, and draws it elsewhere at the first step.
    "metaworld": ("metaworld11", "assembly", "metaworld", Scenario(3), ("corner2", "corner+yaw15")),
    # Starts with a stove that is on: its burner glows, which is no position.
    "libero": ("libero10", 8, "libero", Scenario(2, 7), ("agentview", "robot0_eye_in_hand+yaw5")),
    "libero, sampled start": ("libero10", 2, "libero", Scenario(10_000), ("robot0_eye_in_hand",)),
}
STEPS = 5


@pytest.mark.parametrize("case", CASES)
def test_rendering_stored_states_gives_the_pixels_depth_ids_and_calibration_of_the_live_episode(case, tmp_path):
    suite_name, task, needs, scenario, cameras = CASES[case]
    pytest.importorskip(needs)
    suite = get_suite(suite_name)
    task = suite.tasks[task] if isinstance(task, int) else suite.task(task)
    config = EnvConfig(cameras=cameras, modalities=MODALITIES, image_size=(80, 60))
    live = make(suite.name, task.name, cameras=cameras, modalities=MODALITIES, image_size=(80, 60))
    observation, _ = live.reset(options={"scenario": scenario})
    seen, states = [], []
    rng = np.random.default_rng(0)
    try:
        for _ in range(STEPS):
            states.append(live.simulator.get_state())
            seen.append(observation)
            # Several physics steps between two looks, and one look right after the start.
            for _ in range(3):
                observation, *_ = live.step(rng.uniform(-1, 1, task.action_spec.size))
    except RenderingUnavailable as error:
        pytest.skip(str(error))
    finally:
        live.close()
    with h5py.File(tmp_path / "s.h5", "w") as file:
        StateRows.pack(states).write(file.create_group("demo"))
    with h5py.File(tmp_path / "s.h5", "r") as file:
        rows = StateRows.read(file["demo"])

    after = rendering_env(suite, task, suite.rules(), config)
    try:
        count = 0
        for expected, observation in zip(seen, observe_states(after, rows, scenario), strict=True):
            assert set(observation) == set(expected)
            for key in expected:
                np.testing.assert_array_equal(observation[key], expected[key], err_msg=f"{case}: {key} of look {count}")
            count += 1
        # Any step alone, and backwards, is the same picture.
        for step in (STEPS - 1, 0):
            (observation,) = observe_states(after, rows, scenario, [step])
            key = f"{cameras[0]}/rgb"
            np.testing.assert_array_equal(observation[key], seen[step][key])
    finally:
        after.close()
    assert count == STEPS
    assert any(not np.array_equal(seen[0][f"{cameras[-1]}/rgb"], later[f"{cameras[-1]}/rgb"]) for later in seen[1:])
    if case == "libero":
        assert np.ptp(rows.places["model/site_rgba"].values[..., 3]) > 0


def test_other_cameras_can_look_at_the_same_trajectory_later():
    suite = get_suite("toy")
    env = make("toy", "push", cameras=(), modalities=())
    env.reset(options={"scenario": Scenario(1)})
    states = []
    for _ in range(4):
        states.append(env.simulator.get_state())
        env.step(np.array([0.5, 0.2, -0.3, 1.0]))
    rows = StateRows.pack(states)
    views = rendering_env(suite, suite.task("push"), suite.rules(), EnvConfig(cameras=("front",), image_size=(64, 48)))
    front = [observation["front/rgb"] for observation in observe_states(views, rows, Scenario(1))]
    views.set_cameras(("side+yaw10", "wrist"))
    side = [observation["side+yaw10/rgb"] for observation in observe_states(views, rows, Scenario(1))]
    assert len(front) == len(side) == 4
    assert not any(np.array_equal(one, other) for one, other in zip(front, side, strict=True))
