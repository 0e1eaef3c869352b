"""Every diagnosis of SOF says a number and draws a picture, from a checkpoint and demonstrations."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")
Image = pytest.importorskip("PIL.Image")
pytest.importorskip("cv2")

from flowbench.agents.sof.diagnose import commands  # noqa: E402
from flowbench.agents.sof.diagnose.opened import Skills, blocks_of  # noqa: E402
from flowbench.agents.sof.diagnose.reconstruction import Reconstruction, reconstruct  # noqa: E402
from flowbench.agents.sof.diagnose.tokens import TokenUse  # noqa: E402
from flowbench.errors import BadValue, FlowBenchError  # noqa: E402


@pytest.fixture
def diagnose(sof, tmp_path, monkeypatch):
    """Runs a diagnosis, checks that it drew something, and returns its numbers."""
    monkeypatch.setenv("FLOWBENCH_CACHE", str(tmp_path / "cache"))

    def run(command, name, *arguments):
        out = tmp_path / name
        given = ["--checkpoint", str(sof.folder), "--out", str(out), "--quiet", *map(str, arguments)]
        ran = CliRunner().invoke(command, given, catch_exceptions=False)
        assert ran.exit_code == 0, ran.output
        picture = np.asarray(Image.open(out / f"{name}.png").convert("RGB"))
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 2
        assert (out / f"{name}.md").read_text().count("|") > 6
        return json.loads((out / f"{name}.json").read_text())["numbers"]

    return run


def test_reconstruction_is_measured_against_no_motion(diagnose, toy_demos):
    numbers = diagnose(commands.reconstruction, "reconstruction", "--data", toy_demos, "--every", 16)
    by_name = {number["name"]: number for number in numbers}
    # Hardly trained, it says that hardly anything moves.
    assert by_name["all pixels"]["ratio"] == pytest.approx(1, abs=0.2)
    assert {"front", "side"} & set(by_name) and {"reach", "lift"} <= set(by_name)


def test_tokens_are_counted_and_compared_between_tasks(diagnose, toy_demos):
    (numbers,) = diagnose(commands.tokens, "tokens", "--data", toy_demos, "--split", "train", "--every", 4)
    assert 1 <= numbers["used"] <= numbers["size"] == 125
    assert 1 <= numbers["perplexity"] <= numbers["used"]
    assert 0 <= numbers["shared_reaching"] <= 1


def test_overlap_is_one_for_equal_tokens_and_none_for_others():
    use = TokenUse(10)
    use.phases["reaching"] = {"a": np.eye(10, dtype=np.int64)[3] * 4, "b": np.eye(10, dtype=np.int64)[3] * 9}
    use.phases["acting"] = {"a": np.eye(10, dtype=np.int64)[3], "b": np.eye(10, dtype=np.int64)[5]}
    assert (use.shared("reaching"), use.shared("acting")) == (1.0, 0.0)
    use.counts[:4] = 5
    assert use.used == 4 and use.perplexity == pytest.approx(4)


def test_one_trajectory_is_trained_and_followed(diagnose, toy_demos):
    (numbers,) = diagnose(commands.overfit_command, "overfit", "--data", toy_demos, "--task", "lift", "--steps", 3)
    assert set(numbers) >= {"error of an action component", "the same of the mean action"}
    assert all(value >= 0 for value in numbers.values())


def test_another_arm_is_shown_to_the_skills(diagnose, toy_demos):
    other = ("--other-suite", "toy", "--other-data", toy_demos)
    numbers = diagnose(commands.embodiment, "embodiment", "--data", toy_demos, *other, "--every", 16)
    assert [number["arm"] for number in numbers] == ["toy", "toy"]
    assert 0 < numbers[0]["overlap"] <= 1


@pytest.mark.slow
def test_disturbed_flow_and_variants_are_evaluated_in_the_same_scenarios(diagnose, toy_demos):
    episodes = ("--tasks", "reach", "--cameras", "front", "--seeds", "0", "--workers", 0)
    numbers = diagnose(commands.robustness, "robustness", "--noise", "1", "--hidden", "1", *episodes)
    assert {number["run"] for number in numbers} >= {"undisturbed", "noise 1", "hidden 1"}
    variants = ("--variants", "geometry,skill2action", "--steps", 1, "--data", toy_demos)
    numbers = diagnose(commands.ablations, "ablations", *variants, *episodes)
    assert {number["run"] for number in numbers} >= {"flow2action", "geometry", "skill2action"}


def test_a_variant_that_is_trained_needs_data(sof, tmp_path):
    given = ["--checkpoint", str(sof.folder), "--out", str(tmp_path), "--variants", "pixels"]
    with pytest.raises(BadValue, match="Variant pixels is trained. Name the demonstrations with --data"):
        CliRunner().invoke(commands.ablations, given, catch_exceptions=False)
    given[-1] = "pixel"
    with pytest.raises(FlowBenchError, match="SOF has no variant 'pixel'. Did you mean 'pixels'"):
        CliRunner().invoke(commands.ablations, given, catch_exceptions=False)


def test_errors_are_sorted_by_the_size_of_what_moves(sof, toy_demos, tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWBENCH_CACHE", str(tmp_path))
    skills = Skills.open(str(sof.folder))
    (block, *_) = blocks_of(skills, [toy_demos], split=None, per_task=1, every=1000)
    content = torch.zeros_like(block.content)
    content[:, 0, 2:10, 2:10] = 10 * skills.model.skills.scale
    content[:, 0, 13, 13] = 10 * skills.model.skills.scale
    found = Reconstruction(skills)
    found.add([type(block)(block.info, block.camera, 0, block.frame, content)])
    sizes = found.groups["size of what moves"]
    assert {name: errors.pixels for name, errors in sizes.items()} == {"large": 8 * 64, "small, below 1 %": 8}
    made, tokens = reconstruct(skills, block)
    assert made.shape == tuple(content.shape) and tokens.shape == (2,)
