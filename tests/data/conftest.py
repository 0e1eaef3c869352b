"""Small recordings in every format's own layout, written from the format's documentation, and what they mean."""

import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pytest

from flowbench.data.collect import CollectOptions, collect
from flowbench.data.collect_spec import CollectSpec
from flowbench.spec import AgentSpec

#: Steps of the two demonstrations that every recording holds.
STEPS = (7, 9)
HEIGHT, WIDTH = 24, 32


class Recording(NamedTuple):
    """A recording, and the truth about it.

    Attributes:
        path: The file or folder.
        format: Name of its format.
        camera: One of its cameras.
        moments: For each demonstration, the moments that its rows are about.
        actions: Whether it has actions.
        victim: A file without whose end some demonstration cannot be read.
    """

    path: Path
    format: str
    camera: str
    moments: tuple[range, ...]
    actions: bool
    victim: Path


def picture(moment: int) -> np.ndarray:
    """Return what the camera sees: uint8 (H, W, 3), red in the upper left corner, the moment in green everywhere."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[: HEIGHT // 3, : WIDTH // 3, 0] = 200
    image[-2:, :, 2] = 90
    image[..., 1] = moment
    return image


def distance_m(moment: int) -> np.ndarray:
    """Return the depth that belongs to `picture`: the upper left corner is nearest."""
    depth_m = np.full((HEIGHT, WIDTH), 2.0 + moment / 10, np.float32)
    depth_m[: HEIGHT // 3, : WIDTH // 3] = 0.5
    return depth_m


def action(moment: int, width: int = 7) -> np.ndarray:
    """Return the action that follows `picture`: the moment in its first component."""
    return np.concatenate([[moment], np.linspace(-1, 1, width - 1)])


def state(moment: int, width: int) -> np.ndarray:
    return moment + np.arange(width) / 100


def stack(function: Callable[..., np.ndarray], moments, *rest) -> np.ndarray:
    return np.stack([function(moment, *rest) for moment in moments])


def write_flowbench(folder: Path) -> Recording:
    path = folder / "ours.h5"
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs.update(flowbench_format=1, flowbench_version="0.1.0", num_demos=2, total=sum(STEPS), spec="{}")
        data.attrs.update(cameras='["front"]', image_convention="upright", env_args="{}")
        for number, steps in enumerate(STEPS):
            demo = data.create_group(f"demo_{number}")
            demo.attrs.update(num_samples=steps, suite="toy", task="push", instruction="push it", success=True)
            moments = range(steps)
            demo["actions"] = stack(action, moments)
            demo["obs/proprio"] = stack(state, moments, 4).astype(np.float32)
            images = stack(picture, moments)
            demo.create_dataset("obs/front_rgb", data=images, chunks=(1, *images.shape[1:]), compression="gzip")
            depth = demo.create_dataset("obs/front_depth", data=np.rint(stack(distance_m, moments) * 1000).astype("u2"))
            depth.attrs["unit_m"] = 0.001
    return Recording(path, "flowbench-hdf5", "front", tuple(range(n) for n in STEPS), True, path)


def write_libero(folder: Path, name: str = "turn_on_the_stove_demo.hdf5") -> Recording:
    """As LIBERO's `create_dataset.py` does: bottom-up images, observations recorded after the action of their row."""
    path = folder / name
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_name"] = "Libero_Kitchen_Tabletop_Manipulation"
        data.attrs["problem_info"] = json.dumps(
            {"problem_name": "x", "domain_name": "robosuite", "language_instruction": "Turn on the stove please"}
        )
        data.attrs["macros_image_convention"] = "opengl"
        data.attrs["bddl_file_name"] = "libero/libero/bddl_files/libero_goal/turn_on_the_stove.bddl"
        data.attrs["bddl_file_content"] = "(define ...)"
        data.attrs["env_args"] = json.dumps({"type": 1, "env_name": "Libero", "env_kwargs": {"robots": ["Panda"]}})
        data.attrs["num_demos"] = len(STEPS)
        data.attrs["total"] = sum(STEPS)
        for number, steps in enumerate(STEPS):
            demo = data.create_group(f"demo_{number}")
            demo.attrs.update(num_samples=steps, model_file="<mujoco/>", init_state=state(0, 20))
            before, after = range(steps), range(1, steps + 1)
            demo["actions"] = stack(action, before)
            demo["states"] = stack(state, before, 20)
            demo["robot_states"] = stack(state, after, 9)
            demo["rewards"] = demo["dones"] = np.array([0] * (steps - 1) + [1], np.uint8)
            obs = demo.create_group("obs")
            obs["agentview_rgb"] = stack(picture, after)[:, ::-1]
            obs["eye_in_hand_rgb"] = stack(picture, after)[:, ::-1] // 2
            obs["ee_states"] = stack(state, after, 6)
            obs["ee_pos"], obs["ee_ori"] = obs["ee_states"][:, :3], obs["ee_states"][:, 3:]
            obs["gripper_states"] = stack(state, after, 2)
            obs["joint_states"] = stack(state, after, 7)
    return Recording(path, "libero-hdf5", "agentview", tuple(range(1, n) for n in STEPS), True, path)


def write_robomimic(folder: Path) -> Recording:
    """As robomimic's `dataset_states_to_obs.py` does: upright images, depth in metres, observations before actions."""
    path = folder / "image.hdf5"
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "Lift", "type": 1, "env_kwargs": {"robots": ["Panda"]}})
        data.attrs["total"] = sum(STEPS)
        for number, steps in enumerate(STEPS):
            demo = data.create_group(f"demo_{number}")
            demo.attrs.update(num_samples=steps, model_file="<mujoco/>")
            moments = range(steps)
            demo["actions"] = stack(action, moments)
            demo["states"] = stack(state, moments, 20)
            demo["rewards"] = np.array([0.0] * (steps - 1) + [1.0])
            demo["dones"] = np.array([0] * (steps - 1) + [1])
            for group, offset in (("obs", 0), ("next_obs", 1)):
                obs = demo.create_group(group)
                shifted = range(offset, steps + offset)
                obs["agentview_image"] = stack(picture, shifted)
                obs["agentview_depth"] = stack(distance_m, shifted)[..., None]
                obs["robot0_eef_pos"] = stack(state, shifted, 3)
                obs["robot0_eef_quat"] = np.tile([0.0, 0.0, np.sin(0.3), np.cos(0.3)], (steps, 1))
                obs["robot0_gripper_qpos"] = stack(state, shifted, 2)
        file["mask/train"] = np.array([b"demo_0"])
    return Recording(path, "libero-hdf5", "agentview", tuple(range(n) for n in STEPS), True, path)


def write_calvin(folder: Path, *, annotated: bool = True) -> Recording:
    """As CALVIN's dataset README describes it: one npz per step; annotated pieces overlap and include both ends."""
    path = folder / "task_D_D" / "training"
    path.mkdir(parents=True)
    first = 358482
    for moment in range(20):
        np.savez_compressed(
            path / f"episode_{first + moment:07d}.npz",
            actions=action(moment) + 100,
            rel_actions=action(moment),
            robot_obs=state(moment, 15),
            scene_obs=state(moment, 24),
            rgb_static=picture(moment),
            rgb_gripper=picture(moment)[:12, :12],
            rgb_tactile=np.zeros((16, 12, 6), np.uint8),
            depth_static=distance_m(moment),
            depth_gripper=distance_m(moment)[:12, :12],
            depth_tactile=np.zeros((16, 12, 2), np.float32),
        )
    np.save(path / "ep_start_end_ids.npy", np.array([[first, first + 10], [first + 11, first + 19]]))
    starts = (2, 4)
    if annotated:
        (path / "lang_annotations").mkdir()
        annotations = {
            "language": {
                "ann": ["open the drawer", "push the red block to the left"],
                "task": ["open_drawer", "push_red_block_left"],
                "emb": np.zeros((2, 1, 384), np.float32),
            },
            "info": {
                "episodes": [],
                "indx": [
                    (first + start, first + start + steps - 1) for start, steps in zip(starts, STEPS, strict=True)
                ],
            },
        }
        np.save(path / "lang_annotations" / "auto_lang_ann.npy", annotations)
    moments = tuple(range(start, start + steps) for start, steps in zip(starts, STEPS, strict=True))
    return Recording(
        path if annotated else path.parent,
        "calvin-npz",
        "static",
        moments if annotated else (range(11), range(11, 20)),
        True,
        path / f"episode_{first + 6:07d}.npz",
    )


def write_avdc(folder: Path) -> Recording:
    """As the example in AVDC's repository: one more frame than actions; action.pkl lists every sequence's."""
    from PIL import Image

    path = folder / "metaworld_dataset"
    for number, steps in enumerate(STEPS):
        sequence = path / "door-open" / "corner" / f"{number:03d}"
        sequence.mkdir(parents=True)
        for moment in range(steps + 1):
            Image.fromarray(picture(moment)[:, ::-1]).save(sequence / f"{moment:02d}.png")
        every = [[action(moment, 4) for moment in range(steps)] for steps in STEPS]
        (sequence / "action.pkl").write_bytes(pickle.dumps(every))
    return Recording(
        path, "avdc-png", "corner", tuple(range(n) for n in STEPS), True, path / "door-open/corner/001/03.png"
    )


def write_ithor(folder: Path) -> Recording:
    """As the example in AVDC's repository: frames of a walk to an object."""
    from PIL import Image

    path = folder / "thor_dataset"
    for number, steps in enumerate(STEPS):
        frames = path / "Bread" / f"{number:03d}" / "frames"
        frames.mkdir(parents=True)
        for moment in range(steps):
            Image.fromarray(picture(moment)).save(frames / f"{moment:02d}.png")
    return Recording(path, "avdc-png", "agent", tuple(range(n) for n in STEPS), False, path / "Bread/001/frames/03.png")


def write_lerobot(folder: Path) -> Recording:
    """Written by the package itself, images as PNG so that they can be compared."""
    pytest.importorskip("lerobot", reason="lerobot is not installed")
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    path = folder / "recorded"
    features = {
        "observation.images.front": {
            "dtype": "image",
            "shape": (HEIGHT, WIDTH, 3),
            "names": ["height", "width", "channels"],
        },
        "observation.state": {"dtype": "float32", "shape": (5,), "names": None},
        "action": {"dtype": "float32", "shape": (7,), "names": None},
        "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
    }
    dataset = LeRobotDataset.create("local/recorded", fps=10, features=features, root=path, use_videos=False)
    for number, steps in enumerate(STEPS):
        for moment in range(steps):
            dataset.add_frame(
                {
                    "observation.images.front": picture(moment),
                    "observation.state": state(moment, 5).astype(np.float32),
                    "action": action(moment).astype(np.float32),
                    "next.reward": np.zeros(1, np.float32),
                    "task": f"sentence {number}",
                }
            )
        dataset.save_episode()
    dataset.finalize()
    moments = tuple(range(n) for n in STEPS)
    return Recording(path, "lerobot-v3", "front", moments, True, path / "data/chunk-000/file-000.parquet")


WRITERS = {
    "flowbench-hdf5": write_flowbench,
    "libero-hdf5": write_libero,
    "robomimic": write_robomimic,
    "calvin-npz": write_calvin,
    "avdc-png": write_avdc,
    "avdc-ithor": write_ithor,
    "lerobot-v3": write_lerobot,
}


@pytest.fixture(params=WRITERS)
def recording(request, tmp_path) -> Recording:
    """A recording in each format in turn."""
    return WRITERS[request.param](tmp_path)


@pytest.fixture
def write_recording(tmp_path) -> Callable[..., Recording]:
    """Return a function that writes a recording in a layout of `WRITERS`, below `tmp_path` or a folder in it."""

    def write(layout: str, folder: str = "", **options) -> Recording:
        target = tmp_path / folder
        target.mkdir(parents=True, exist_ok=True)
        return WRITERS[layout](target, **options)

    return write


@pytest.fixture(scope="session")
def collect_toy(tmp_path_factory) -> Callable[..., Path]:
    """Return a function that collects a file of the toy suite: two demonstrations of push and lift, two cameras."""
    spec = CollectSpec(
        suite="toy",
        protocol="default",
        agent=AgentSpec("scripted"),
        tasks=("push", "lift"),
        cameras=("front", "wrist+yaw10"),
        seeds=tuple(range(10_000, 10_020)),
        image_size=(64, 48),
        demonstrations=2,
        max_attempts=10,
    )

    def collected(**changes) -> Path:
        path = tmp_path_factory.mktemp("collected") / "toy.h5"
        collect(replace(spec, **changes), path, CollectOptions(workers=0, progress=False))
        return path

    return collected


@pytest.fixture(scope="session")
def collected_toy(collect_toy) -> Path:
    """One such file; not to be changed."""
    return collect_toy()


@pytest.fixture
def toy_copy(collected_toy, tmp_path) -> Path:
    """A copy of it that a test may damage."""
    return Path(shutil.copy(collected_toy, tmp_path / "toy.h5"))
