"""Does a recording hold what it should, and do its actions still do what they did?"""

import os
import signal
from functools import partial

import h5py
import numpy as np
import pytest

from flowbench.data.checks import structural_problems
from flowbench.data.collect import CollectOptions, collect
from flowbench.data.collect_spec import CollectSpec
from flowbench.data.layout import checksum
from flowbench.data.pool import Crash, map_demos
from flowbench.data.readers import open_demos
from flowbench.data.replay import _first_difference
from flowbench.data.states import StateRows
from flowbench.data.verify import VerifyOptions, choose_demos, verify_demos, verify_file
from flowbench.errors import BadValue, DataError, UnknownName
from flowbench.registry import make
from flowbench.simulator import SimulatorState
from flowbench.spec import AgentSpec


def verdicts_of(path, demos=None, workers=0, **options):
    """Verify, and return the verdicts by name."""
    reader = open_demos(path)
    chosen = range(len(reader.demos)) if demos is None else demos
    found = {verdict.name: verdict for verdict in verify_demos(reader, chosen, VerifyOptions(**options), workers)}
    reader.close()
    return found


def change(path, array, value, where=..., demo="demo_0", honest=False):
    """Overwrite a part of an array; an honest change also corrects the checksum."""
    with h5py.File(path, "r+") as file:
        group = file["data"][demo]
        group[array][where] = value
        if honest:
            group.attrs["checksum"] = checksum(group)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_fresh_collection_replays_to_the_same_states_and_pictures(collected_toy, workers):
    verdicts = verdicts_of(collected_toy, workers=workers)
    assert set(verdicts) == {"demo_0", "demo_1", "demo_2", "demo_3"}
    for verdict in verdicts.values():
        assert (verdict.problems, verdict.warnings, verdict.agrees) == ((), (), True)
        assert verdict.replay.states == "equal"
        # RGB, depth and segmentation of two cameras.
        assert verdict.replay.pictures_compared == 6


@pytest.mark.parametrize("changes", [{"action_noise": 0.05}, {"start_noise": 4}, {"finish": True}, {"modalities": ()}])
def test_every_way_of_collecting_replays(collect_toy, changes):
    path = collect_toy(**changes)
    for verdict in verdicts_of(path).values():
        assert verdict.problems == ()
        assert (verdict.agrees, verdict.replay.states) == (True, "equal")


def test_failures_replay_to_failure(collect_toy):
    path = collect_toy(keep_failures=True, max_steps=5, tasks=("push",))
    verdicts = verdicts_of(path)
    assert [verdict.replay.success for verdict in verdicts.values()] == [False, False]
    assert all(verdict.agrees and not verdict.problems for verdict in verdicts.values())


def test_another_action_shows_from_the_next_state_on(toy_copy):
    # Down instead of whatever it was.
    change(toy_copy, "actions", [0.0, 0.0, 0.5, -1.0], where=6, honest=True)
    verdict = verdicts_of(toy_copy, [0])["demo_0"]
    assert verdict.replay.difference.step == 7
    assert verdict.replay.difference.where == "physics"
    assert any(problem.startswith("states differ from step 7 on, first in physics") for problem in verdict.problems)
    assert verdicts_of(toy_copy, [1])["demo_1"].problems == ()


def test_a_state_that_was_never_reached_is_found(toy_copy):
    change(toy_copy, "states", 1e-12, where=(9, 0), honest=True)
    difference = verdicts_of(toy_copy, [0])["demo_0"].replay.difference
    assert difference.step == 9


def test_another_final_state_is_found(toy_copy):
    change(toy_copy, "final_state", 0.25, where=0, honest=True)
    assert "first in the final state" in verdicts_of(toy_copy, [0])["demo_0"].problems[0]


def test_a_wrong_outcome_is_found(toy_copy):
    with h5py.File(toy_copy, "r+") as file:
        file["data/demo_0"].attrs["success"] = False
    assert verdicts_of(toy_copy, [0])["demo_0"].problems == ("its replay ends in success; stored is failure",)


def test_other_pixels_are_a_warning(toy_copy):
    with h5py.File(toy_copy) as file:
        middle = int(file["data/demo_0"].attrs["num_samples"]) // 2
    change(toy_copy, "obs/front_rgb", 7, where=(middle, slice(0, 24)), honest=True)
    verdict = verdicts_of(toy_copy, [0])["demo_0"]
    assert verdict.problems == ()
    (warning,) = verdict.warnings
    assert warning.startswith("front/rgb differs in 50.00% of pixels by up to ")
    assert warning.endswith(f"at step {middle}")
    assert verdicts_of(toy_copy, [0], pictures=False)["demo_0"].warnings == ()


def test_depth_may_differ_by_what_its_unit_rounds_away_and_not_by_more(toy_copy):
    with h5py.File(toy_copy) as file:
        depth = file["data/demo_0/obs/front_depth"]
        middle = len(depth) // 2
        row = depth[middle]
    change(toy_copy, "obs/front_depth", row + np.uint16(2) * (row > 0), where=middle, honest=True)
    (warning,) = verdicts_of(toy_copy, [0])["demo_0"].warnings
    assert "front/depth differs" in warning


@pytest.mark.parametrize(
    "array, value, where, sentence",
    [
        ("obs/front_rgb", 9, ..., "front/rgb is one colour, [9, 9, 9], at step 0"),
        ("obs/front_depth", 0, ..., "front/depth hit nothing anywhere at step 0"),
        ("obs/front_segmentation", 77, ..., "front/segmentation has ids without a name at step 0: [77]"),
        ("obs/front_intrinsic_cv", 0, (slice(4, None), 0, 0), "front/intrinsic_cv is not a camera matrix at step 4"),
        ("obs/front_extrinsic_cv", 2, (3, 0, 0), "front/extrinsic_cv is not a rigid transform at step 3"),
        ("states", np.nan, (2, 1), "states has a value that is not finite at step 2"),
        ("actions", 1.5, (2, 1), "actions have dy = 1.5 at step 2, outside [-1, 1]"),
    ],
)
def test_what_makes_no_sense_is_named(toy_copy, array, value, where, sentence):
    change(toy_copy, array, value, where)
    reader = open_demos(toy_copy)
    (problem,) = structural_problems(reader, 0)
    assert sentence in problem
    assert structural_problems(reader, 1) == []
    reader.close()
    verdict = verdicts_of(toy_copy, [0])["demo_0"]
    assert verdict.problems[1:] == ("its arrays were changed or damaged after they were written (checksum)",)
    assert (verdict.replay, verdict.not_replayed) == (None, "damaged contents")


def test_a_chunk_that_cannot_be_decoded_is_named(toy_copy):
    with h5py.File(toy_copy) as file:
        chunk = file["data/demo_0/obs/front_rgb"].id.get_chunk_info(0)
    with toy_copy.open("r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(b"\0" * chunk.size)
    problems = verdicts_of(toy_copy, [0])["demo_0"].problems
    assert "front/rgb cannot be read at steps 0 to 0: the file is damaged" in problems[0]
    assert "its arrays cannot be read" in problems[1]


def test_an_action_width_of_another_suite_is_named(toy_copy):
    with h5py.File(toy_copy, "r+") as file:
        actions = file["data/demo_0/actions"][()]
        del file["data/demo_0/actions"]
        file["data/demo_0/actions"] = np.hstack([actions, actions])
    reader = open_demos(toy_copy)
    assert structural_problems(reader, 0) == ["actions have 8 components; toy takes 4 (dx, dy, dz, gripper)"]


def test_an_image_that_is_none_is_named(toy_copy):
    with h5py.File(toy_copy, "r+") as file:
        del file["data/demo_0/obs/front_rgb"]
        file["data/demo_0/obs/front_rgb"] = np.zeros((9, 4), np.uint8)
    verdict = verdicts_of(toy_copy, [0])["demo_0"]
    assert "demo_0: front/rgb has shape (9, 4); expected (T, H, W, 3)" in verdict.problems[0]
    assert verdict.not_replayed == "damaged contents"


def test_lengths_that_disagree_are_named(toy_copy):
    with h5py.File(toy_copy, "r+") as file:
        file["data/demo_0"].attrs["num_samples"] -= 1
        file["data"].attrs["num_demos"] = 9
    reader = open_demos(toy_copy)
    problems = structural_problems(reader, 0)
    assert len(problems) == len(reader.demos[0].arrays)
    assert all(" rows, and the demonstration " in problem for problem in problems)
    assert verify_file(reader)[0] == "the file says num_demos = 9, and there are 4"


def test_without_actions_only_the_structure_is_checked(collect_toy):
    verdicts = verdicts_of(collect_toy(action_free=True, tasks=("push",)))
    assert [(verdict.problems, verdict.not_replayed) for verdict in verdicts.values()] == [((), "no actions")] * 2


def test_a_recording_of_another_world_says_why_it_is_not_replayed(write_recording):
    calvin = verdicts_of(write_recording("calvin-npz").path)
    assert {verdict.not_replayed for verdict in calvin.values()} <= {
        "the file does not say which suite and task it is of",
        "there is no task calvin-d-d/open_drawer here",
        "there is no task calvin-d-d/push_red_block_left here",
    }


def test_a_task_that_is_not_here_is_named(toy_copy):
    with h5py.File(toy_copy, "r+") as file:
        file["data/demo_0"].attrs["task"] = "juggle"
    verdict = verdicts_of(toy_copy, [0])["demo_0"]
    assert (verdict.problems, verdict.not_replayed) == ((), "there is no task toy/juggle here")


def test_what_a_simulator_refuses_is_a_problem_of_that_demonstration(toy_copy):
    with h5py.File(toy_copy, "r+") as file:
        file["data/demo_0"].attrs["scenario"] = "start-3"
        file["data/demo_1"].attrs["protocol"] = "defualt"
    verdicts = verdicts_of(toy_copy)
    assert verdicts["demo_0"].problems == (
        "demo_0 has the scenario 'start-3'; expected a key such as s003 or i007-s000",
    )
    assert "Suite toy has no protocol 'defualt'. Did you mean 'default'?" in verdicts["demo_1"].problems[0]
    assert verdicts["demo_2"].problems == ()


@pytest.mark.parametrize(
    "text, expected",
    [(None, (0, 1, 2, 3)), ("2", (0, 3)), ("1", (0,)), ("99", (0, 1, 2, 3)), ("demo_2, demo_0,demo_2", (2, 0))],
)
def test_demonstrations_are_chosen_by_number_or_name(collected_toy, text, expected):
    assert choose_demos(open_demos(collected_toy), text) == expected


@pytest.mark.parametrize(
    "text, error, sentence",
    [
        ("demo_7", UnknownName, "has no demonstration 'demo_7'. Did you mean 'demo_"),
        ("0", BadValue, "--demos 0 verifies nothing"),
        (" , ", BadValue, "names no demonstration"),
    ],
)
def test_a_wrong_choice_is_one_sentence(collected_toy, text, error, sentence):
    with pytest.raises(error) as raised:
        choose_demos(open_demos(collected_toy), text)
    assert sentence in str(raised.value)


@pytest.mark.parametrize(
    "death, how",
    [
        (partial(os._exit, 3), "ended with exit code 3"),
        (partial(signal.raise_signal, signal.SIGKILL), "was killed by SIGKILL (out of memory?)"),
    ],
)
def test_a_worker_that_dies_costs_its_demonstration_and_no_other(collected_toy, death, how):
    reader = open_demos(collected_toy)
    answers = dict(map_demos(death, reader, range(4), workers=2))
    assert answers == {demo: Crash(how) for demo in range(4)}


def test_what_a_worker_cannot_open_is_the_callers_error(collected_toy):
    reader = open_demos(collected_toy)
    with pytest.raises(DataError, match="no such file"):
        list(map_demos(partial(open_demos, "missing.h5"), reader, range(4), workers=1))


def state(physics, **extras):
    return SimulatorState(np.array(physics, dtype=float), extras)


def test_numbers_beside_the_physics_are_compared_too():
    stored = StateRows.pack([state([0, step], goal=np.array([1.0, step]), mode=None) for step in range(5)])
    assert _first_difference(stored, stored) is None
    goal = [np.array([1.0, step + (step == 3)]) for step in range(5)]
    other = StateRows.pack([state([0, step], goal=goal[step], mode=None) for step in range(5)])
    assert _first_difference(stored, other)[::2] == (3, "goal")
    switched = StateRows.pack(
        [state([0, step], goal=np.array([1.0, step]), mode=None if step < 2 else 4) for step in range(5)]
    )
    assert _first_difference(stored, switched)[::2] == (0, "mode")


def test_a_shorter_vector_is_compared_where_both_have_numbers():
    stored = StateRows.pack([state([step]) for step in range(4)])
    replayed = StateRows.pack([state([step + 0.5 * (step == 2), 9], clock=step) for step in range(4)])
    assert _first_difference(stored, replayed) == (2, 0.5, "physics")


@pytest.mark.slow
def test_metaworld_replays_bit_for_bit(tmp_path):
    pytest.importorskip("metaworld", reason="Meta-World is not installed")
    spec = CollectSpec(
        suite="metaworld11",
        protocol="stock_v3",
        agent=AgentSpec("scripted"),
        tasks=("door-open", "basketball"),
        cameras=("corner",),
        seeds=(10_000, 10_001, 10_002),
        image_size=(64, 48),
        demonstrations=1,
        max_attempts=3,
        action_noise=0.05,
        finish=True,
    )
    collect(spec, tmp_path / "m.h5", CollectOptions(workers=1, progress=False))
    verdicts = verdicts_of(tmp_path / "m.h5", workers=1)
    assert [(verdict.problems, verdict.warnings) for verdict in verdicts.values()] == [((), ())] * 2
    assert [verdict.replay.states for verdict in verdicts.values()] == ["equal"] * 2


def write_as_libero(ours, path, task):
    """Write our demonstration as LIBERO's own script does: states without what robosuite remembers, fixtures in the scene."""
    env = make("libero-goal", task, cameras=(), modalities=())
    env.reset(seed=0)
    model = env.simulator.model
    with h5py.File(ours) as source, h5py.File(path, "w") as file:
        group = source["data/demo_0"]
        fixtures = [
            (
                model.body(body).name,
                *(group[f"state_extras/model/{name}"][0][body] for name in ("body_pos", "body_quat")),
            )
            for body in range(1, model.nbody)
            if model.body_parentid[body] == 0 and model.body_jntnum[body] == 0
        ]
        bodies = "".join(
            f'<body name="{name}" pos="{" ".join(map(str, pos))}" quat="{" ".join(map(str, quat))}"/>'
            for name, pos, quat in fixtures
        )
        data = file.create_group("data")
        data.attrs["problem_info"] = '{"language_instruction": "turn on the stove"}'
        data.attrs["bddl_file_name"] = f"libero/libero/bddl_files/libero_goal/{task}.bddl"
        demo = data.create_group("demo_0")
        demo.attrs["model_file"] = f"<mujoco><worldbody>{bodies}</worldbody></mujoco>"
        demo["actions"] = group["actions"][()]
        demo["states"] = group["states"][:, : 1 + model.nq + model.nv]
        demo["rewards"] = np.arange(len(demo["actions"])) == len(demo["actions"]) - 1
        demo["obs/gripper_states"] = group["obs/gripper_states"][()]
    env.close()


@pytest.mark.slow
def test_liberos_own_files_replay_with_their_fixtures_where_they_stood(tmp_path):
    pytest.importorskip("libero", reason="LIBERO is not installed")
    task = "turn_on_the_stove"
    spec = CollectSpec(
        suite="libero-goal",
        protocol="openvla",
        agent=AgentSpec("scripted"),
        tasks=(task,),
        cameras=(),
        seeds=(10_000, 10_001, 10_002),
        modalities=(),
        demonstrations=1,
        max_attempts=3,
    )
    collect(spec, tmp_path / "ours.h5", CollectOptions(workers=1, progress=False))
    write_as_libero(tmp_path / "ours.h5", tmp_path / "theirs.hdf5", task)
    assert verdicts_of(tmp_path / "ours.h5", workers=1)["demo_0"].replay.states == "equal"
    verdict = verdicts_of(tmp_path / "theirs.hdf5", workers=1)["demo_0"]
    assert (verdict.problems, verdict.agrees) == ((), True)
    # The solver's warm start and the controller's memory are not in LIBERO's files.
    assert verdict.replay.difference.largest < 1e-6
    (warning,) = verdict.warnings
    assert warning.startswith("states differ from step ")
