"""Sets of pairs: exact, made again the same, resumable, split without leaks."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from flowbench.env import EnvConfig, TaskEnv
from flowbench.errors import DataError, UnknownName
from flowbench.flow.generate import FIRST_SEED, PairSetSpec, generate_pairs
from flowbench.flow.pairs import MOVING, ROBOT, TARGET, VISIBLE, PairSet
from flowbench.flow.sampling import SamplingSpec, plan_steps, sample_scene
from flowbench.flow.splits import HoldOut, split_pairs
from flowbench.registry import get_suite, make_agent

SPEC = PairSetSpec(
    suites=("toy",),
    tasks={"toy": ("push",)},
    views={"toy": ("front",)},
    scenes_per_task=1,
    sampling=SamplingSpec(views_per_scene=1, window=48, near_pairs=1, windows_per_pair=1, most_steps=40),
)


@pytest.fixture
def pairs(toy_pairs):
    opened = PairSet(toy_pairs)
    yield opened
    opened.close()


def test_a_pair_holds_images_flow_masks_and_where_it_comes_from(pairs):
    assert len(pairs) > 20 and len(pairs.paths) == 4
    read = pairs.read(range(len(pairs)))
    assert read.first.shape == read.second.shape == (len(pairs), 48, 48, 3) and read.first.dtype == np.uint8
    assert read.flow_px.dtype == np.float16 and read.flow_px.shape == (len(pairs), 48, 48, 2)
    assert np.isfinite(read.flow_px.astype(np.float32)).all()
    info = pairs.infos[0]
    assert info.suite == "toy" and info.seed >= FIRST_SEED and info.view in ("front", "side", "wrist")
    assert set(pairs.column("task")) == {"push", "lift"} and set(pairs.column("plan")) == {True, False}


def test_the_flow_of_a_pair_explains_its_second_image(pairs):
    """Whole pixels of flow name the very pixel; colours there are alike, where they were not before."""
    read = pairs.read(range(len(pairs)))
    flow = read.flow_px.astype(np.float32)
    rows, columns = np.indices(flow.shape[1:3])
    better = worse = 0
    for index in range(len(pairs)):
        landing = np.rint(np.stack([columns, rows], axis=-1) + flow[index]).astype(int)
        inside = ((landing >= 0) & (landing < 48)).all(axis=-1)
        moving = read.has(VISIBLE)[index] & inside & (np.linalg.norm(flow[index], axis=-1) > 2)
        there = read.second[index][landing[moving][:, 1], landing[moving][:, 0]].astype(int)
        here = read.first[index][moving].astype(int)
        stayed = read.second[index][moving].astype(int)
        better += np.abs(there - here).sum()
        worse += np.abs(stayed - here).sum()
    assert better < 0.5 * worse and worse > 0


def test_masks_say_what_moved_in_the_world(pairs):
    read = pairs.read(pairs.where(view=("front", "side")))
    still = (read.masks & MOVING) == 0
    assert not np.any(read.flow_px[still & (read.objects == 1)]), "a fixed camera sees the table stand still"
    assert np.any(read.has(MOVING) & read.has(ROBOT)) and np.any(read.has(MOVING) & read.has(TARGET))
    assert not np.any(read.has(ROBOT) & read.has(TARGET))


def test_a_scene_is_made_again_the_same():
    def make(seed):
        suite = get_suite("toy")
        env = TaskEnv(suite, suite.task("push"), suite.rules(), EnvConfig(modalities=(), lazy=True, privileged=True))
        rng = np.random.default_rng(seed)
        return sample_scene(env, make_agent("scripted", {}), 7, ("front", "side"), SPEC.sampling, rng)

    (first, first_infos), (second, second_infos), (_, other_infos) = make(1), make(1), make(2)
    assert first_infos == second_infos != other_infos
    for one, same in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, same)


def test_an_interrupted_set_goes_on_and_can_grow(tmp_path):
    pytest.importorskip("cv2")
    assert generate_pairs(SPEC, tmp_path, workers=0, progress=False) == []
    (path,) = tmp_path.rglob("*.h5")
    before = path.stat().st_mtime_ns
    more = replace(SPEC, scenes_per_task=2)
    assert generate_pairs(more, tmp_path, workers=0, progress=False) == []
    assert path.stat().st_mtime_ns == before and len(list(tmp_path.rglob("*.h5"))) == 2
    with pytest.raises(DataError, match=r'made with views.toy = .*, and this set has \["side", .* \.\.\.') as error:
        generate_pairs(replace(SPEC, views={"toy": ("side",) * 99}), tmp_path, workers=0, progress=False)
    assert len(str(error.value)) < 600 + len(str(tmp_path))


def test_a_scene_that_cannot_be_made_does_not_stop_the_others(tmp_path, monkeypatch):
    pytest.importorskip("cv2")
    from flowbench.envs.toy.simulator import ToySimulator

    step = ToySimulator.step

    def sometimes(self, action):
        if self._task_name == "lift":
            raise RuntimeError("the hand got stuck")
        return step(self, action)

    monkeypatch.setattr(ToySimulator, "step", sometimes)
    spec = replace(SPEC, tasks={"toy": ("lift", "push")})
    failures = generate_pairs(spec, tmp_path, workers=0, progress=False)
    assert failures == [f"toy/lift/s{FIRST_SEED}.h5: RuntimeError: the hand got stuck"]
    assert [path.parent.name for path in tmp_path.rglob("*.h5")] == ["push"]


def test_splits_hold_out_without_leaks(pairs):
    held_out = HoldOut(every_seed=2, views=("side",), tasks=("lift",))
    splits = split_pairs(pairs, held_out)
    assert sorted(np.concatenate(list(splits.values()))) == list(range(len(pairs)))
    train = splits["train"]
    assert len(train) and set(pairs.column("task")[train]) == {"push"} and "side" not in pairs.column("view")[train]
    assert (pairs.column("seed")[train] % 2 == 0).all()
    assert set(pairs.column("task")[splits["task"]]) == {"lift"}
    assert set(pairs.column("task")[splits["seed"]]) <= {"push"}, "a split differs from training in one respect"
    assert not len(splits["suite"])


def test_mistakes_are_named(tmp_path, toy_pairs):
    with pytest.raises(DataError, match="holds no pairs with exact flow. Make some: flowbench flow-pairs"):
        PairSet(tmp_path)
    (tmp_path / "x.h5").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"x.h5 is not a file of pairs with exact flow"):
        PairSet(tmp_path)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.attrs["format"], file.attrs["pairs"] = 99, "[]"
    with pytest.raises(DataError, match="has format 99; this FlowBench reads formats up to 1"):
        PairSet(tmp_path)
    with pytest.raises(UnknownName, match="no camera 'fornt'"):
        replace(SPEC, views={"toy": ("fornt",)}).scenes()


@pytest.mark.parametrize("length, start", [(40, 0), (9, 0), (100, 33)])
def test_a_plan_has_eight_frames_from_its_start_to_the_end(length, start):
    steps = plan_steps(length, start)
    assert len(steps) == 8 and steps[0] == start and steps[-1] == length - 1
    gaps = np.diff(steps)
    assert gaps.min() >= 0 and gaps.max() - gaps.min() <= (length - start) // 7 + 1


def test_the_command_makes_a_set(tmp_path):
    pytest.importorskip("cv2")
    from click.testing import CliRunner

    from flowbench.cli.flow_pairs import flow_pairs

    command = ["--suite", "toy", "--tasks", "push", "--cameras", "front", "--scenes", "1", "--workers", "0"]
    ran = CliRunner().invoke(flow_pairs, [*command, "--out", str(tmp_path / "set")])
    assert ran.exit_code == 0, ran.output
    assert f"1 scenes in {tmp_path / 'set'}" in ran.output
    assert isinstance(next(Path(tmp_path).rglob("*.h5")), Path)
