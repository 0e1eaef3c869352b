"""Demonstrations of CALVIN: collected, written in the releases' layout, read back, replayed."""

import numpy as np
import pytest

from flowbench.cli.collect import build_spec
from flowbench.data.calvin_writer import check_demos, write_calvin
from flowbench.data.collect import CollectOptions, collect
from flowbench.data.readers import open_demos
from flowbench.errors import BadValue, DataError


def spec(**changes):
    options = {
        "agent": "scripted", "suite": "calvin-tasks-b", "tasks": "turn_on_led", "cameras": "static,gripper",
        "modalities": "rgb,depth", "episodes": 1, "action_noise": 0.03, "agent_args": "speed_variety=0.3",
        "max_attempts": None, "keep_failures": False, "checkpoint": None, "protocol": None, "seeds": None,
        "init_states": None, "max_steps": None, "image_size": None, "render_profile": "full", "depth_format": "float32",
        "start_noise": 0, "finish": False, "action_free": False, "compression": 1, "camera_sweep": None, "backend": None,
    }  # fmt: skip
    return build_spec({**options, **changes})


@pytest.fixture(scope="module")
def collected(root, tmp_path_factory):
    path = tmp_path_factory.mktemp("calvin") / "demos.h5"
    collect(spec(), path, CollectOptions(workers=0, progress=False))
    return path


def test_a_demonstration_has_upstream_s_sizes_and_names(collected):
    reader = open_demos(collected)
    (demo,) = reader.demos
    assert demo.instruction == "press the button to turn on the led light"
    assert demo.arrays["static/rgb"].shape == (200, 200, 3) and demo.arrays["gripper/rgb"].shape == (84, 84, 3)
    scene_obs = reader.read(0, "scene_obs", slice(None))
    assert scene_obs.shape == (demo.steps, 24)
    # The LED is off while the expert is on its way.
    assert set(scene_obs[:, 5]) == {0.0}
    reader.close()


def test_the_releases_layout_is_written_and_read_back(collected, tmp_path):
    ours = open_demos(collected)
    check_demos(ours, tmp_path / "task_B_D")
    assert list(write_calvin(ours, tmp_path / "task_B_D")) == [ours.demos[0].steps]
    names = sorted(path.name for path in (tmp_path / "task_B_D" / "training").iterdir())
    assert names[0] == "ep_start_end_ids.npy" and names[1] == "episode_0000000.npz" and "lang_annotations" in names
    # As a loader of the releases unpacks it.
    annotations = np.load(
        tmp_path / "task_B_D" / "training" / "lang_annotations" / "auto_lang_ann.npy", allow_pickle=True
    ).item()
    assert annotations["language"]["task"] == ["turn_on_led"] and len(annotations["info"]["indx"]) == 1
    with np.load(tmp_path / "task_B_D" / "training" / "episode_0000000.npz") as step:
        assert step["rgb_gripper"].shape == (84, 84, 3) and step["depth_static"].dtype == np.float32
        assert step["actions"].shape == step["rel_actions"].shape == (7,) and step["robot_obs"].shape == (15,)
        # The absolute action is where the relative one puts the target.
        assert np.abs(step["actions"][:3] - step["robot_obs"][:3]).max() <= 0.02 + 1e-6
        assert step["rel_actions"][6] in (-1, 1)

    theirs = open_demos(tmp_path / "task_B_D")
    assert theirs.demos[0].instruction == ours.demos[0].instruction
    for key in ("static/rgb", "gripper/rgb", "static/depth"):
        assert np.array_equal(theirs.read(0, key, slice(0, 3)), ours.read(0, key, slice(0, 3)))
    relative = theirs.read(0, "actions", slice(None))
    executed = ours.read(0, "actions", slice(None))
    assert np.allclose(relative[:, :6], executed[:, :6], atol=1e-6)
    ours.close()


def test_what_lacks_an_image_or_exists_is_refused(collected, tmp_path):
    with pytest.raises(DataError, match="exists; give --out a new folder"):
        check_demos(open_demos(collected), tmp_path)
    blind = tmp_path / "blind.h5"
    collect(
        spec(cameras="static", modalities="rgb", image_size="16x16"), blind, CollectOptions(workers=0, progress=False)
    )
    with pytest.raises(
        DataError, match="has no gripper/rgb, which CALVIN's layout needs. Collect with --cameras static,"
    ):
        check_demos(open_demos(blind), tmp_path / "new")


def test_a_stored_demonstration_replays_state_by_state(collected):
    from flowbench.data.replay import Replayer

    replay = Replayer(open_demos(collected), pictures=False)
    found = replay.replay(0)
    replay.close()
    assert found.success and found.states == "equal"


def test_demonstrations_are_of_single_tasks(root):
    with pytest.raises(BadValue, match="Suite calvin-d-d asks for 5 instructions in a row"):
        spec(suite="calvin-d-d", tasks=None, init_states="0").check()
