"""What was imagined is drawn beside what happened, and its arrays lie beside the picture."""

import numpy as np
import pytest

from flowbench.errors import BadValue
from flowbench.evaluate import EvalOptions, evaluate
from flowbench.plan_recording import RecordedPlan, plan_path, write_plans
from flowbench.spec import AgentSpec, EvalSpec

Image = pytest.importorskip("PIL.Image")


def spec(agent, **arguments):
    return EvalSpec("toy", "default", AgentSpec(agent, arguments), ("push",), ("front",), (0,), max_steps=12)


def test_a_plan_is_drawn_over_what_it_was_about(tmp_path):
    frames = np.full((3, 20, 30, 3), 200, np.uint8)
    points = np.full((3, 2, 2), 12.0)
    points[:, 1] = 15.0
    plan = RecordedPlan(
        2,
        frames,
        (10, 5, 30, 20),
        flow_px=np.ones((2, 40, 60, 2), np.float32),
        points_px=points,
        live=np.array([[True, False]] * 3),
        title="plan 0",
    )
    happened = [np.full((40, 60, 3), 10 * step, np.uint8) for step in range(9)]
    write_plans(tmp_path, "toy/push@front/s000", [plan], happened)
    path = plan_path(tmp_path, "toy/push@front/s000", 0)
    with np.load(path.with_suffix(".npz")) as arrays:
        assert arrays["moments"].tolist() == [2, 5, 8]
        assert [int(image[0, 0, 0]) for image in arrays["happened"]] == [20, 50, 80]
        assert arrays["flow_px"].shape == (2, 40, 60, 2) and arrays["live"].shape == (3, 2)
    picture = np.asarray(Image.open(path))
    # Trusted points are green, lost ones grey; what happened is in the last row.
    assert (picture == [60, 230, 90]).all(axis=-1).any() and (picture == [150, 150, 150]).all(axis=-1).any()
    assert [(picture[-60] == 10 * step).all(axis=-1).sum() > 100 for step in (2, 5, 8, 3)] == [True, True, True, False]


def test_eval_records_every_plan(tmp_path):
    arguments = {"planner": "oracle", "flow": "exact", "rule": "robust", "planner_args": {"frames": 3, "max_steps": 20}}
    run = evaluate(spec("avdc", **arguments), tmp_path, EvalOptions(workers=0, record="plans", progress=False))
    (result,) = run.results
    assert len(list((tmp_path / "plans").glob("*.png"))) == result.metrics["plans"] > 0
    with np.load(next((tmp_path / "plans").glob("*plan0.npz"))) as arrays:
        assert arrays["frames"].shape == (3, 96, 128, 3)
        assert np.array_equal(arrays["frames"][0], arrays["happened"][0])
        assert arrays["moments"][0] == 0 and arrays["moments"][-1] <= 12


def test_plans_of_an_agent_without_any_are_refused(tmp_path):
    with pytest.raises(BadValue, match="--record plans: agent random does not plan. Leave it out, or record videos"):
        evaluate(spec("random"), tmp_path, EvalOptions(workers=0, record="plans", progress=False))
    assert not (tmp_path / "episodes.jsonl").exists()
