"""`flowbench collect`: what is kept, what is written, and what an interruption costs."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace

import h5py
import numpy as np
import pytest

from flowbench.agent import Needs
from flowbench.agents.scripted.toy import ToyExpert
from flowbench.data.collect import CollectOptions, collect
from flowbench.data.collect_spec import FIRST_TRAINING_SEED, CollectSpec
from flowbench.data.layout import checksum, decode_depth
from flowbench.data.parts import parts_folder
from flowbench.data.states import StateRows
from flowbench.errors import BadValue, DataError, FlowBenchError
from flowbench.registry import get_suite, make
from flowbench.spec import AgentSpec
from flowbench.task import Scenario

SPEC = CollectSpec(
    suite="toy",
    protocol="default",
    agent=AgentSpec("scripted"),
    tasks=("reach", "push"),
    cameras=("front", "wrist+yaw5"),
    seeds=tuple(range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + 10)),
    image_size=(48, 36),
    demonstrations=2,
    max_attempts=10,
)
HERE = CollectOptions(workers=0, progress=False)


def run(path, **changes):
    """Collect in this process and return the open file."""
    collect(replace(SPEC, **changes), path, HERE)
    return h5py.File(path, "r")


def demos(file):
    return [file["data"][f"demo_{index}"] for index in range(int(file["data"].attrs["num_demos"]))]


def checksums(path):
    with h5py.File(path, "r") as file:
        return [(demo.attrs["episode_id"], demo.attrs["checksum"]) for demo in demos(file)]


class Hesitant:
    """Reaches like the expert in most scenarios, and does nothing in the others."""

    needs = Needs(privileged=True)

    def reset(self, task, cameras, seed):
        self._expert = ToyExpert()
        self._expert.reset(task, cameras, seed)
        self._lazy = seed % 2 == 0

    def act(self, observation):
        return np.zeros(4) if self._lazy else self._expert.act(observation)


class Spectator:
    """Acts on what it sees, in its own size and orientation."""

    needs = Needs(modalities=("rgb",), image_size=(32, 24), image_view="policy")

    def reset(self, task, cameras, seed):
        assert list(cameras) == ["wrist+yaw5"]

    def act(self, observation):
        image = observation.rgb()
        assert image.shape == (24, 32, 3)
        return np.array(
            [image[..., 0].mean() / 255, -image[:, :16].mean() / 255, image[:, 16:].mean() / 255 - 0.6, 0.0]
        )


class Twitching(ToyExpert):
    """Asks for the largest motion whenever it can, so that noise must be clipped, and says when it has finished."""

    needs = Needs(privileged=True)
    finished = None

    def __init__(self, rest=0):
        self._rest = rest

    def reset(self, task, cameras, seed):
        super().reset(task, cameras, seed)
        self._steps = 0

    def act(self, observation):
        self._steps += 1
        return super().act(observation)


class Finishing(Twitching):
    """Knows that it has finished five steps after it was ten steps under way."""

    @property
    def finished(self):
        return self._steps >= 60


def test_a_file_holds_every_row_that_the_layout_promises(tmp_path):
    with run(tmp_path / "d.h5", depth_format="float32") as file:
        data = file["data"]
        assert (data.attrs["num_demos"], data.attrs["image_convention"]) == (4, "upright")
        assert data.attrs["total"] == sum(demo.attrs["num_samples"] for demo in demos(file))
        assert json.loads(data.attrs["cameras"]) == ["front", "wrist+yaw5"]
        assert CollectSpec.from_json(json.loads(data.attrs["spec"])) == replace(SPEC, depth_format="float32")
        assert [demo.attrs["task"] for demo in demos(file)] == ["reach", "reach", "push", "push"]
        assert list(file["mask/push"][()]) == [b"demo_2", b"demo_3"]
        for demo in demos(file):
            steps = int(demo.attrs["num_samples"])
            assert demo["actions"].shape == (steps, 4)
            assert demo["actions"].dtype == demo["rewards"].dtype == demo["states"].dtype == np.float64
            assert demo["dones"][()].tolist() == [0] * (steps - 1) + [1]
            assert demo["obs/proprio"].shape == (steps, 4)
            assert demo["obs/front_rgb"].shape == (steps, 36, 48, 3)
            assert demo["obs/front_rgb"].chunks == (1, 36, 48, 3)
            assert demo["obs/wrist+yaw5_segmentation"].dtype == np.uint8
            assert demo["obs/front_intrinsic_cv"].shape == (steps, 3, 3)
            assert demo["obs/front_extrinsic_cv"].shape == (steps, 4, 4)
            assert demo.attrs["success"]
            assert demo.attrs["seed"] >= FIRST_TRAINING_SEED
            assert demo.attrs["instruction"] == get_suite("toy").task(demo.attrs["task"]).instruction
            assert set(json.loads(demo.attrs["segmentation_names"]).values()) >= {"table", "gripper"}
            assert demo.attrs["checksum"] == checksum(demo)


def test_stored_pictures_are_those_of_the_episode_played_back(tmp_path):
    with run(tmp_path / "d.h5", tasks=("push",), demonstrations=1, depth_format="float32") as file:
        (demo,) = demos(file)
        env = make("toy", "push", cameras=SPEC.cameras, modalities=SPEC.modalities, image_size=SPEC.image_size)
        observation, info = env.reset(options={"scenario": Scenario(int(demo.attrs["seed"]))})
        for step, action in enumerate(demo["actions"][()]):
            np.testing.assert_array_equal(demo["states"][step], env.simulator.get_state().physics)
            for camera in SPEC.cameras:
                for item in ("rgb", "depth", "segmentation", "intrinsic_cv", "extrinsic_cv"):
                    np.testing.assert_array_equal(demo[f"obs/{camera}_{item}"][step], observation[f"{camera}/{item}"])
            np.testing.assert_array_equal(demo["obs/proprio"][step], observation["proprio"])
            observation, reward, terminated, _, info = env.step(action)
            assert reward == demo["rewards"][step]
        assert terminated and info["is_success"]
        np.testing.assert_array_equal(demo["final_state"], env.simulator.get_state().physics)


@pytest.mark.parametrize("name, error_m", [("uint16", 0.0005), ("float16", 0.0005), ("float32", 0.0)])
def test_depth_formats_keep_what_they_declare(name, error_m, tmp_path):
    changes = {"tasks": ("reach",), "demonstrations": 1}
    with (
        run(tmp_path / "d.h5", depth_format=name, **changes) as file,
        run(tmp_path / "exact.h5", depth_format="float32", **changes) as exact,
    ):
        stored = file["data/demo_0/obs/front_depth"]
        assert stored.dtype == name
        depth_m = decode_depth(stored[()], stored.attrs["unit_m"])
        truth_m = exact["data/demo_0/obs/front_depth"][()]
        assert truth_m.max() > 0.3
        assert np.abs(depth_m - truth_m).max() <= error_m + 1e-6
        np.testing.assert_array_equal(depth_m == 0, truth_m == 0)


def test_noise_and_varied_starts_are_recorded_so_that_the_episode_can_be_played_back(tmp_path):
    with run(tmp_path / "d.h5", action_noise=0.3, start_noise=6, modalities=()) as file:
        demo = demos(file)[-1]
        env = make("toy", demo.attrs["task"], cameras=(), modalities=())
        executed, asked, prefix = demo["actions"][()], demo["expert_actions"][()], demo["prefix_actions"][()]
        assert prefix.shape == (6, 4)
        assert np.abs(executed).max() <= 1
        deviation = (executed - asked)[:, :3][np.abs(executed[:, :3]) < 1]
        assert 0.2 < deviation.std() < 0.4
        np.testing.assert_array_equal(executed[:, 3], asked[:, 3])  # The gripper's command is left alone.
        scenario = Scenario(int(demo.attrs["seed"]))
        env.reset(options={"scenario": scenario, "prefix_actions": prefix})
        for state, action in zip(demo["states"][()], executed, strict=True):
            np.testing.assert_array_equal(state, env.simulator.get_state().physics)
            *_, info = env.step(action)
        assert info["is_success"]
        env.reset(options={"scenario": scenario})
        assert not np.array_equal(env.simulator.get_state().physics, demo["states"][0])


def test_the_same_demonstrations_come_from_any_number_of_workers(tmp_path):
    spec = replace(SPEC, agent=AgentSpec(f"{__file__}:Hesitant"), tasks=("reach", "lift"), action_noise=0.1)
    counts = {
        workers: collect(spec, tmp_path / f"{workers}.h5", CollectOptions(workers, progress=False))
        for workers in (0, 2)
    }
    assert counts[0].tasks == counts[2].tasks
    assert any(count.attempted > count.kept for count in counts[0].tasks.values())
    assert checksums(tmp_path / "0.h5") == checksums(tmp_path / "2.h5")


def test_the_same_trajectories_are_collected_through_any_camera(tmp_path):
    with (
        run(tmp_path / "a.h5", action_noise=0.2, cameras=("side",)) as one,
        run(tmp_path / "b.h5", action_noise=0.2, cameras=()) as other,
    ):
        for mine, theirs in zip(demos(one), demos(other), strict=True):
            np.testing.assert_array_equal(mine["actions"], theirs["actions"])
            assert mine.attrs["episode_id"] == theirs.attrs["episode_id"]
            assert list(theirs["obs"]) == ["proprio"]


def test_an_agent_that_looks_sees_its_own_images_and_ours_are_stored_upright(tmp_path):
    changes = {"agent": AgentSpec(f"{__file__}:Spectator"), "cameras": ("wrist+yaw5", "front")}
    changes |= {"tasks": ("push",), "demonstrations": 1, "keep_failures": True, "max_steps": 8}
    with run(tmp_path / "d.h5", **changes) as file:
        (demo,) = demos(file)
        assert demo["obs/front_rgb"].shape == (8, 36, 48, 3)
        suite = get_suite("toy")
        simulator = make("toy", "push", cameras=("front",), image_size=(48, 36), image_view="geometric")
        simulator.reset(options={"scenario": Scenario(FIRST_TRAINING_SEED)})
        rows = StateRows.read(demo)
        simulator.simulator.set_state(rows.restore(5, simulator.simulator.get_state()))
        frame = simulator._observe()
        np.testing.assert_array_equal(demo["obs/front_rgb"][5], frame["front/rgb"])
        assert suite.policy_view_mirrored  # Otherwise this test says nothing.


def test_failures_are_left_out_and_further_starts_are_tried(tmp_path):
    spec = replace(SPEC, agent=AgentSpec(f"{__file__}:Hesitant"), tasks=("reach",), modalities=(), demonstrations=3)
    collection = collect(spec, tmp_path / "d.h5", HERE)
    count = collection.tasks["reach"]
    assert count.kept == 3 < count.attempted
    with h5py.File(tmp_path / "d.h5") as file:
        assert all(demo.attrs["success"] for demo in demos(file))
        assert [demo.attrs["seed"] for demo in demos(file)] == sorted(demo.attrs["seed"] for demo in demos(file))
    kept_all = collect(replace(spec, keep_failures=True), tmp_path / "all.h5", HERE)
    assert kept_all.tasks["reach"] == (3, 3, 0)
    with h5py.File(tmp_path / "all.h5") as file:
        assert {bool(demo.attrs["success"]) for demo in demos(file)} == {True, False}


def test_nothing_to_keep_is_one_sentence_and_no_file(tmp_path):
    path = tmp_path / "d.h5"
    with pytest.raises(DataError) as caught:
        collect(replace(SPEC, agent=AgentSpec("zero"), max_attempts=3), path, HERE)
    assert "None of 6 episodes of toy by agent zero is a demonstration, so nothing was written" in str(caught.value)
    assert "--keep-failures" in str(caught.value)
    assert not path.exists()


def test_tasks_that_stay_short_are_named(tmp_path):
    spec = replace(
        SPEC, agent=AgentSpec(f"{__file__}:Hesitant"), tasks=("reach", "lift"), modalities=(), max_attempts=2
    )
    collection = collect(spec, tmp_path / "d.h5", HERE)
    assert collection.short == [task for task, count in collection.tasks.items() if count.kept < 2] != []


def test_finishing_goes_on_until_the_agent_has_finished_or_success_has_held(tmp_path):
    changes = {"tasks": ("reach",), "modalities": (), "demonstrations": 1}
    with run(tmp_path / "plain.h5", **changes) as plain:
        steps = int(plain["data"].attrs["total"])
    for name, expected in (("Twitching", steps + 9), ("Finishing", 60)):
        agent = AgentSpec(f"{__file__}:{name}")
        with run(tmp_path / f"{name}.h5", agent=agent, finish=True, **changes) as file:
            assert file["data"].attrs["total"] == expected


def test_action_free_files_hold_pictures_and_the_instruction_only(tmp_path):
    with run(tmp_path / "d.h5", action_free=True, modalities=("rgb", "calibration")) as file:
        for demo in demos(file):
            assert list(demo) == ["obs"]
            items = ("rgb", "intrinsic_cv", "extrinsic_cv")
            assert set(demo["obs"]) == {f"{camera}_{item}" for camera in SPEC.cameras for item in items}
            assert demo.attrs["instruction"]
    with pytest.raises(BadValue, match="--action-free stores images only, and no camera or modality is asked for"):
        run(tmp_path / "e.h5", action_free=True, cameras=())


def test_a_complete_file_is_left_alone_and_another_collection_is_refused(tmp_path):
    path = tmp_path / "d.h5"
    run(path, modalities=()).close()
    before = path.stat()
    again = collect(replace(SPEC, modalities=()), path, HERE)
    assert again.already_complete and path.stat() == before
    with pytest.raises(DataError, match=r"holds another collection \(there != asked: demonstrations: 2 != 1\)"):
        run(path, modalities=(), demonstrations=1)
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(DataError, match="exists and is not a complete file of flowbench collect"):
        run(path, modalities=())
    with pytest.raises(DataError, match="is a folder; --out needs the name of a file"):
        run(tmp_path)


def test_parts_of_another_collection_are_refused(tmp_path):
    path = tmp_path / "d.h5"
    with pytest.raises(DataError):
        collect(replace(SPEC, agent=AgentSpec("zero"), max_attempts=2), path, HERE)
    assert parts_folder(path).is_dir()
    with pytest.raises(
        DataError, match=r"d.h5.parts holds another collection \(there != asked: agent: .*zero.* != .*scripted"
    ):
        run(path)
    (tmp_path / "e.h5.parts").mkdir()
    (tmp_path / "e.h5.parts" / "thesis.tex").write_text("mine")
    with pytest.raises(DataError, match="holds something else than a collection"):
        run(tmp_path / "e.h5")


COMMAND = [sys.executable, "-m", "flowbench", "collect", "--suite", "toy", "--image-size", "64x48", "--episodes", "12"]


def test_kill_9_costs_the_running_episodes_only_and_changes_nothing(tmp_path):
    path = tmp_path / "d.h5"
    command = [*COMMAND, "--workers", "2", "--out", str(path)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    folder = parts_folder(path)
    deadline = time.monotonic() + 120
    while len(list(folder.glob("*.json"))) < 6 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    finished = {file.name: file.stat().st_mtime_ns for file in folder.glob("*-*.json")}
    assert len(finished) >= 5 and not path.exists()
    # A torn file of the episode that was running, as a crash at another moment would leave it.
    (folder / "reach-s10011.h5.writing").write_bytes(b"torn")
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    rerun = set()
    while process.poll() is None:
        for name, written in finished.items():
            file = folder / name
            if file.exists() and file.stat().st_mtime_ns != written:
                rerun.add(name)
        time.sleep(0.05)
    assert process.returncode == 0 and not rerun and not folder.exists()
    subprocess.run([*COMMAND, "--quiet", "--out", str(tmp_path / "whole.h5")], check=True)
    assert checksums(path) == checksums(tmp_path / "whole.h5")
    assert len(checksums(path)) == 36


@pytest.mark.parametrize("limit_kb, kept", [(20, 0), (120, 4)])
def test_a_full_disk_is_one_sentence_and_keeps_what_is_finished(limit_kb, kept, tmp_path):
    path = tmp_path / "d.h5"
    command = [
        sys.executable,
        "-m",
        "flowbench",
        "collect",
        "--suite",
        "toy",
        "--tasks",
        "reach,lift",
        "--episodes",
        "2",
    ]
    command += ["--image-size", "64x48", "--quiet", "--out", str(path)]

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_kb * 1024, resource.RLIM_INFINITY))

    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit)
    assert done.returncode == 2
    assert "could not be written: File too large. The " in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert f"The {kept} demonstrations in {parts_folder(path)} are kept; make room" in done.stderr
    assert not path.exists()
    assert not list(tmp_path.rglob("*.writing"))
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert len(checksums(path)) == 4


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"tasks": ("reech",)}, "Did you mean 'reach'?"),
        ({"cameras": ("frnt",)}, "Did you mean 'front'?"),
        ({"modalities": ("rgbb",)}, "has no modality 'rgbb'|There is no modality 'rgbb'"),
        ({"depth_format": "int8"}, "There is no depth format 'int8'"),
        ({"demonstrations": 0}, "--episodes is 0; give a number from 1."),
        ({"action_noise": -0.1}, "--action-noise is -0.1; give a number from 0 to 1."),
        ({"compression": 10}, "--compression is 10; give a number from 0 to 9."),
        ({"max_attempts": 1}, "only 1 starts may be tried; raise --max-attempts"),
        ({"image_size": (4, 4)}, r"image_size is \(4, 4\)"),
    ],
)
def test_what_cannot_be_collected_is_said_before_anything_is_written(changes, text, tmp_path):
    with pytest.raises(FlowBenchError, match=text):
        run(tmp_path / "new" / "d.h5", **changes)
    assert not (tmp_path / "new").exists()


def test_an_agent_that_breaks_is_reported_and_its_episodes_are_tried_again(tmp_path):
    spec = replace(SPEC, agent=AgentSpec(f"{__file__}:Breaking"), tasks=("reach",), demonstrations=1, max_attempts=2)
    with pytest.raises(DataError, match=r"The first error: Agent .*Breaking.*: ValueError: out of ideas"):
        collect(spec, tmp_path / "d.h5", HERE)


class Breaking(Twitching):
    """Has an error in its fourth step."""

    def act(self, observation):
        if self._steps == 3:
            raise ValueError("out of ideas")
        return super().act(observation)


def test_libero_files_hold_what_liberos_own_loader_reads(tmp_path):
    """Walk through the file as LIBERO's `get_dataset` and robomimic's `SequenceDataset` do, with their names."""
    pytest.importorskip("libero")
    collect(
        CollectSpec(
            suite="libero-object",
            protocol="libero",
            agent=AgentSpec("random"),
            tasks=(get_suite("libero-object").tasks[0].name,),
            cameras=("agentview", "robot0_eye_in_hand"),
            seeds=(FIRST_TRAINING_SEED,),
            image_size=(64, 64),
            max_steps=4,
            demonstrations=1,
            max_attempts=1,
            keep_failures=True,
            modalities=("rgb",),
        ),
        tmp_path / "l.h5",
        CollectOptions(1, progress=False),
    )
    with h5py.File(tmp_path / "l.h5", "r") as file:
        names = sorted(file["data"].keys(), key=lambda name: int(name[5:]))
        assert names == ["demo_0"]
        assert json.loads(file["data"].attrs["env_args"])["env_name"] == "flowbench/libero-object"
        assert json.loads(file["data"].attrs["problem_info"])["language_instruction"].startswith(
            "pick up the alphabet soup"
        )
        demo = file[f"data/{names[0]}"]
        assert demo.attrs["num_samples"] == 4
        assert (demo["actions"].shape, demo["actions"].dtype) == ((4, 7), np.float64)
        widths = {"ee_pos": 3, "ee_ori": 3, "ee_states": 6, "gripper_states": 2, "joint_states": 7}
        for name, width in widths.items():
            assert (demo[f"obs/{name}"].shape, demo[f"obs/{name}"].dtype) == ((4, width), np.float64)
        for name in ("agentview_rgb", "eye_in_hand_rgb"):
            assert (demo[f"obs/{name}"].shape, demo[f"obs/{name}"].dtype) == ((4, 64, 64, 3), np.uint8)
            assert demo[f"obs/{name}"][()].std() > 10
        np.testing.assert_array_equal(demo["obs/eye_in_hand_rgb"], demo["obs/robot0_eye_in_hand_rgb"])
        # The arm rests above the table, fingers open; its joints are those that robosuite starts with.
        np.testing.assert_allclose(demo["obs/ee_states"][()], np.hstack([demo["obs/ee_pos"], demo["obs/ee_ori"]]))
        np.testing.assert_allclose(demo["obs/joint_states"][0, 3], -2.44, atol=0.1)
        assert demo["obs/gripper_states"][0, 0] == pytest.approx(-demo["obs/gripper_states"][0, 1], abs=1e-3)
