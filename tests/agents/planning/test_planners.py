"""Plans hold what they promise; the oracle leaves no trace; kept plans are found again and nothing else is."""

import json

import numpy as np
import pytest

import flowbench
from flowbench.agent import Needs
from flowbench.agents.planning import Plan, Window, make_planner, planner_names
from flowbench.agents.planning.cache import CachedPlanner
from flowbench.agents.planning.oracle import OraclePlanner, sample_frames
from flowbench.agents.planning.plan import Planner
from flowbench.agents.planning.random_direction import RandomDirectionPlanner
from flowbench.agents.planning.retrieval import RetrievalPlanner
from flowbench.errors import BadValue, DataError, PrivilegeError, ShapeError, UnknownName
from flowbench.registry import get_suite

TOY = get_suite("toy")


@pytest.fixture
def env():
    env = flowbench.make("toy", "lift", modalities=("rgb", "depth", "calibration"), lazy=True, privileged=True)
    yield env
    env.close()


def oracle(task="lift", **arguments):
    planner = OraclePlanner(**arguments)
    planner.reset(TOY.task(task))
    return planner


# --- plans


def test_a_plan_knows_its_length_whatever_it_holds():
    window = Window(0, 0, 8, 8)
    assert Plan("x", 0, window, frames=np.zeros((5, 8, 8, 3), np.uint8)).length == 5
    assert Plan("x", 0, window, flow_px=np.zeros((4, 8, 8, 2), np.float32)).length == 5


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({}, "A plan holds neither frames nor flow nor snapshots"),
        ({"frames": np.zeros((5, 8, 8, 3))}, "frames of a plan are float64 (5, 8, 8, 3); expected uint8"),
        (
            {"flow_px": np.zeros((5, 8, 8))},
            "flow_px of a plan has shape (5, 8, 8); expected (T - 1, height, width, 2).",
        ),
        ({"frames": np.zeros((1, 8, 8, 3), np.uint8)}, "A plan has 1 moment; at least 2 are needed"),
    ],
)
def test_a_plan_that_plans_nothing_is_refused(arrays, sentence):
    with pytest.raises(ShapeError) as caught:
        Plan("x", 0, Window(0, 0, 8, 8), **arrays)
    assert sentence in str(caught.value)


def test_every_registered_planner_answers_the_protocol():
    assert {"oracle", "retrieval", "random-plan"} <= set(planner_names())
    for cls in (OraclePlanner, RandomDirectionPlanner):
        assert isinstance(cls(), Planner)


def test_a_planner_that_does_not_exist_is_named_with_the_nearest():
    with pytest.raises(UnknownName, match="There is no planner 'retreival'. Did you mean 'retrieval'?"):
        make_planner("retreival")


# --- oracle


def test_frames_are_sampled_as_avdc_samples_its_videos():
    assert sample_frames(71, 8) == [0, 10, 20, 30, 40, 50, 60, 70]
    # Not evenly: the published rule cuts downwards and adds the last.
    assert sample_frames(10, 4) == [0, 3, 6, 9]
    assert sample_frames(3, 8) == [0, 0, 0, 1, 1, 2, 2, 2]


def test_the_oracle_leaves_the_simulator_exactly_as_it_was(env):
    observation, _ = env.reset(seed=3)
    before = env.get_state()
    oracle().plan(observation, 0)
    after = env.get_state()
    assert np.array_equal(before.simulator.physics, after.simulator.physics)
    moved = env.step(np.array([0.1, 0, 0, 1]))[0].rgb()
    env.reset(seed=3)
    assert np.array_equal(moved, env.step(np.array([0.1, 0, 0, 1]))[0].rgb())


def test_the_oracle_starts_with_what_is_seen_and_ends_with_success(env):
    observation, _ = env.reset(seed=1)
    plan = oracle().plan(observation, 0)
    assert np.array_equal(plan.frames[0], observation.rgb())
    assert np.array_equal(plan.snapshots[0].depth_m, observation.depth_m())
    heights = [snapshot.body_to_world[:, 2, 3].max() for snapshot in plan.snapshots]
    assert plan.length == 8 and heights[-1] > heights[0]
    assert plan.seconds > 0 and plan.model_calls == 0 and plan.window == Window(0, 0, 128, 96)


def test_the_oracle_renders_only_the_frames_of_the_plan(env, monkeypatch):
    observation, _ = env.reset(seed=0)
    observation.camera_params()
    rendered = []
    render = type(env.simulator).render
    monkeypatch.setattr(type(env.simulator), "render", lambda *args: rendered.append(args[-1]) or render(*args))
    plan = oracle(render=False).plan(observation, 0)
    assert len(rendered) == 8 and not any("rgb" in modalities for modalities in rendered)
    assert plan.frames is None and len(plan.snapshots) == 8


def test_the_same_seed_gives_the_same_oracle_plan(env):
    observation, _ = env.reset(seed=2)
    first, second = (oracle(frames=3).plan(observation, 5) for _ in range(2))
    assert np.array_equal(first.frames, second.frames)


def test_an_oracle_needs_privilege():
    env = flowbench.make("toy", "lift", lazy=True)
    observation, _ = env.reset(seed=0)
    with pytest.raises(PrivilegeError):
        oracle().plan(observation, 0)
    env.close()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"frames": 1}, "frames is 1; a plan has at least 2, the present included."),
        ({"render": False, "snapshots": False}, "An oracle plan without pictures and without snapshots holds nothing"),
    ],
)
def test_an_oracle_that_shows_nothing_is_refused(arguments, sentence):
    with pytest.raises(BadValue) as caught:
        OraclePlanner(**arguments)
    assert sentence in str(caught.value)


# --- retrieval


class Recorded:
    """A reader of demonstrations in memory: two of `lift`, one of them failed, and one of `push`."""

    format, path, image_view = "memory", "memory.h5", "geometric"

    def __init__(self, pictures):
        from flowbench.data.demonstration import ArraySpec, DemoInfo

        self.pictures = pictures
        self.demos = tuple(
            DemoInfo(
                name,
                len(frames),
                {"front/rgb": ArraySpec(frames.shape[1:], "uint8")},
                task=task,
                instruction=TOY.task(task).instruction,
                success=success,
            )
            for name, (task, success, frames) in pictures.items()
        )

    def read(self, demo, key, steps):
        return self.pictures[self.demos[demo].name][2][steps]


@pytest.fixture
def recorded(env):
    videos = {}
    for seed in (0, 1, 2):
        observation, _ = env.reset(seed=seed)
        videos[seed] = oracle(frames=12).plan(observation, 0).frames
    return {"a": ("lift", True, videos[0]), "b": ("lift", True, videos[1]), "c": ("lift", False, videos[2])}


def retrieval(recorded, monkeypatch, task="lift", **arguments):
    monkeypatch.setattr("flowbench.agents.planning.retrieval.open_demos", lambda path: Recorded(recorded))
    monkeypatch.setattr("flowbench.agents.planning.retrieval._fingerprint", lambda path: "hash")
    planner = RetrievalPlanner("memory.h5", **arguments)
    planner.reset(TOY.task(task))
    return planner


def test_the_nearest_demonstration_is_the_plan(env, recorded, monkeypatch):
    planner = retrieval(recorded, monkeypatch, frames=4)
    for seed, name in ((0, "a"), (1, "b")):
        observation, _ = env.reset(seed=seed)
        plan = planner.plan(observation, 0)
        assert np.array_equal(plan.frames, recorded[name][2][sample_frames(12, 4)])
    # The nearest one failed, so another is shown, from what is seen now.
    observation, _ = env.reset(seed=2)
    plan = planner.plan(observation, 0)
    assert np.array_equal(plan.frames[0], observation.rgb())
    assert any(np.array_equal(plan.frames[1:], recorded[name][2][sample_frames(12, 4)[1:]]) for name in "ab")


def test_a_task_without_demonstrations_is_named(recorded, monkeypatch):
    with pytest.raises(DataError) as caught:
        retrieval(recorded, monkeypatch, task="push")
    assert "memory.h5 holds no demonstration of 'push the block onto the green disc'; it has pick up" in str(
        caught.value
    )


def test_a_camera_without_demonstrations_is_named(recorded, monkeypatch):
    env = flowbench.make("toy", "lift", cameras=("side",), modalities=("rgb", "calibration"), lazy=True)
    observation, _ = env.reset(seed=0)
    with pytest.raises(
        DataError, match="seen by camera side. Collect with --cameras side, or evaluate another camera."
    ):
        retrieval(recorded, monkeypatch).plan(observation, 0)
    env.close()


def test_demonstrations_of_another_size_are_refused(recorded, monkeypatch):
    env = flowbench.make("toy", "lift", modalities=("rgb", "calibration"), image_size=(64, 48), lazy=True)
    observation, _ = env.reset(seed=0)
    with pytest.raises(ShapeError, match="are 128x96; the camera gives 64x48. Evaluate with --image-size 128x96."):
        retrieval(recorded, monkeypatch).plan(observation, 0)
    env.close()


def test_retrieval_reads_a_file_of_demonstrations_through_the_agent(env, recorded, tmp_path):
    pytest.importorskip("cv2")
    import h5py

    from flowbench.agents.avdc.agent import AvdcAgent
    from flowbench.data.readers import open_demos

    path = tmp_path / "lift_the_block_demo.hdf5"
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["problem_info"] = json.dumps({"language_instruction": TOY.task("lift").instruction})
        for number, name in enumerate("ab"):
            demo = data.create_group(f"demo_{number}")
            frames = recorded[name][2]
            demo["obs/front_rgb"] = frames[:, ::-1]
            demo["actions"] = np.zeros((len(frames), 4))
    assert open_demos(path).demos[0].cameras == ("front",)
    agent = AvdcAgent("retrieval", flow="dis", rule="robust", checkpoint=str(path), plan_cache=str(tmp_path / "plans"))
    watched = flowbench.make("toy", "lift", modalities=agent.needs.modalities, lazy=True)
    for _ in range(2):
        observation, _ = watched.reset(seed=1)
        agent.reset(watched.task, watched.cameras, 0)
        agent.act(observation)
    watched.close()
    assert (agent.planner.hits, agent.planner.misses) == (1, 1)
    changed = agent.planner.identity["demonstrations"]
    path.touch()
    assert RetrievalPlanner(str(path)).identity["demonstrations"] != changed


# --- cache


class Counting:
    """Imagines the present again and again, and counts how often it is asked."""

    needs = Needs(modalities=("rgb",))

    def __init__(self, weights="1", flow=False):
        self.identity = {"planner": "counting", "weights": weights} if weights else {}
        self.calls, self.flow = 0, flow

    def reset(self, task):
        pass

    def plan(self, observation, seed):
        self.calls += 1
        frames = np.repeat(observation.rgb()[None], 3, axis=0)
        flow = np.full((2, 96, 128, 2), 1.5, np.float32) if self.flow else None
        return Plan(observation.instruction, seed, Window(0, 0, 128, 96), frames, flow, model_calls=7, seconds=2.0)


def test_a_plan_that_was_made_is_not_made_again(env, tmp_path):
    observation, _ = env.reset(seed=0)
    made = CachedPlanner(Counting(flow=True), tmp_path).plan(observation, 4)
    other = CachedPlanner(Counting(flow=True), tmp_path)
    found = other.plan(observation, 4)
    assert (other.hits, other.misses, other.planner.calls) == (1, 0, 0)
    assert np.array_equal(found.frames, made.frames) and np.array_equal(found.flow_px, made.flow_px)
    assert (found.window, found.seed, found.instruction) == (made.window, 4, made.instruction)
    assert (made.model_calls, made.seconds, found.model_calls, found.seconds) == (7, 2.0, 0, 0.0)


@pytest.mark.parametrize("change", ["picture", "seed", "weights", "instruction"])
def test_whatever_decides_a_plan_decides_where_it_is_kept(change, env, tmp_path):
    observation, _ = env.reset(seed=0)
    CachedPlanner(Counting(), tmp_path).plan(observation, 0)
    planner = CachedPlanner(Counting("2" if change == "weights" else "1"), tmp_path)
    if change == "picture":
        observation, _ = env.reset(seed=1)
    if change == "instruction":
        observation.instruction = "do something else"
    planner.plan(observation, 1 if change == "seed" else 0)
    assert planner.planner.calls == 1


def test_plans_without_an_identity_are_never_kept(env, tmp_path):
    observation, _ = env.reset(seed=0)
    planner = CachedPlanner(Counting(weights=""), tmp_path)
    for _ in range(2):
        planner.plan(observation, 0)
    assert planner.planner.calls == 2 and not list(tmp_path.iterdir())
    assert not OraclePlanner.identity and not RandomDirectionPlanner.identity


def test_a_damaged_plan_is_made_again(env, tmp_path):
    observation, _ = env.reset(seed=0)
    CachedPlanner(Counting(), tmp_path).plan(observation, 0)
    (path,) = tmp_path.rglob("*.npz")
    for damage in (path.read_bytes()[:100], b"", json.dumps({}).encode()):
        path.write_bytes(damage)
        planner = CachedPlanner(Counting(), tmp_path)
        planner.plan(observation, 0)
        assert planner.planner.calls == 1
    assert CachedPlanner(Counting(), tmp_path).plan(observation, 0).length == 3


def test_plans_are_kept_in_the_users_cache_unless_a_folder_is_given(env, tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWBENCH_CACHE", str(tmp_path))
    observation, _ = env.reset(seed=0)
    CachedPlanner(Counting()).plan(observation, 0)
    assert len(list((tmp_path / "plans").rglob("*.npz"))) == 1
