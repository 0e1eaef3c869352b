"""The audit: what it counts, and that its tables and its page say it."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("cv2", reason="needs flowbench[data]")

from flowbench.cli.flow_audit import flow_audit
from flowbench.flow.audit import STILL, AuditSpec, audit, audit_pairs, group_names, groups_of, pooled
from flowbench.flow.audit_sheet import detail_sheet, epe_interval, overall_sheet, precision_recall
from flowbench.flow.estimators import make_estimator

SPEC = AuditSpec("toy", ("push",), ("front",), seeds=(0, 1), window=0)


class Constant:
    """Says that everything moves by so much to the right."""

    name = "constant"

    def __init__(self, right_px):
        self.right_px = right_px

    def __call__(self, first, second):
        return np.full((*first.shape[:3], 2), [self.right_px, 0], np.float32)


@pytest.fixture(scope="module")
def pairs():
    return [pair for scene in audit_pairs(SPEC) for pair in scene]


@pytest.fixture(scope="module")
def measured():
    return audit(SPEC, [make_estimator("exact"), Constant(1.0)], progress=False)


def of(measured, name):
    return [item for item in measured if item.estimator == name]


def test_exact_flow_has_no_error_and_constant_flow_its_own(measured, pairs):
    assert len(measured) == 3 * len(pairs) == 3 * 14
    exact, constant, still = (of(measured, name) for name in ("exact", "constant", STILL))
    assert pooled(exact, "moving").pixels > 500
    assert pooled(exact, "all").error_px == 0 and pooled(exact, "hidden").error_px == 0
    assert precision_recall(exact) == (1.0, 1.0)
    standing = pooled(constant, "still")
    assert standing.error_px / standing.pixels == pytest.approx(1.0, abs=0.01) and standing.outliers == 0
    moving = pooled(still, "moving")
    lengths = [np.linalg.norm(pair.flow_px, axis=-1)[groups_of(pair)["moving"]] for pair in pairs]
    assert moving.error_px == pytest.approx(np.concatenate(lengths).sum(), rel=1e-4)
    assert moving.outliers == (np.concatenate(lengths) > 3).sum()


def test_precision_and_recall_are_of_what_moves(measured):
    precision, recall = precision_recall(of(measured, "constant"))
    moving, everything = (pooled(of(measured, "constant"), group).pixels for group in ("moving", "all"))
    assert recall == 1.0 and precision == pytest.approx(moving / everything)
    precision, recall = precision_recall(of(measured, STILL))
    assert np.isnan(precision) and recall == 0.0


def test_groups_divide_the_image(pairs):
    for pair in pairs:
        groups = groups_of(pair)
        assert list(groups) == group_names()
        assert np.array_equal(groups["moving"] ^ groups["still"], groups["all"])
        assert not np.any(groups["robot"] & groups["things"])
        for kind, whole in (("moves", "moving"), ("area", "things")):
            parts = np.sum([mask for name, mask in groups.items() if name.startswith(kind)], axis=0)
            assert np.array_equal(parts, groups[whole].astype(int))
    assert any(groups_of(pair)["target"].any() for pair in pairs)


def test_intervals_hold_the_mean_and_widen_with_fewer_scenes(measured):
    items = of(measured, STILL)
    low, high = epe_interval(items, "moving")
    tally = pooled(items, "moving")
    assert low <= tally.error_px / tally.pixels <= high and low < high
    assert np.isnan(epe_interval([], "moving")).all()


def test_tables_have_a_line_per_estimator_and_per_part(measured):
    overall, detail = overall_sheet(SPEC, measured), detail_sheet(SPEC, measured)
    assert [line.labels[0] for line in overall.groups[0].lines] == [STILL, "exact", "constant"]
    headings = [group.heading for group in detail.groups]
    assert headings == [
        "by kind of pixel",
        "by displacement, moving pixels",
        "by visible area, moving things",
        "by camera, moving pixels",
        "by task, moving pixels",
        "by task, moving things",
    ]
    json.dumps(overall.records, allow_nan=False), json.dumps(detail.records, allow_nan=False)


def test_a_gap_of_steps_instead_of_a_plan():
    (near,) = audit_pairs(AuditSpec("toy", ("push",), ("front",), seeds=(0,), gap=3, window=64))
    assert len(near) >= 8 and near[0].first.shape == (64, 64, 3)


def test_the_command_writes_numbers_tables_pictures_and_a_page(tmp_path):
    command = ["--suite", "toy", "--tasks", "push", "--flow", "dis,exact", "--seeds", "0", "--window", "64"]
    ran = CliRunner().invoke(flow_audit, [*command, "--out", str(tmp_path)], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    assert "| exact" in ran.output and "| dis" in ran.output
    numbers = json.loads((tmp_path / "audit.json").read_text())
    assert {record["estimator"] for record in numbers["overall"]} == {STILL, "dis", "exact"}
    assert numbers["spec"]["suite"] == "toy" and len(numbers["pairs"]) == 21
    page = (tmp_path / "index.html").read_text()
    assert "Flow audit of dis, exact on toy" in page and "data:image/png;base64," in page
    assert "http://" not in page and "https://" not in page and "<script" not in page
    assert len(list((tmp_path / "panels").glob("*.png"))) == 1
    assert "by displacement" in (tmp_path / "audit.md").read_text()


def test_a_checkpoint_is_given_beside_its_network(tmp_path):
    command = ["--suite", "toy", "--flow", "dis@weights.pth", "--out", str(tmp_path)]
    ran = CliRunner().invoke(flow_audit, command)
    assert "Flow estimator dis has no weights, but checkpoint weights.pth was given" in str(ran.exception)
    ran = CliRunner().invoke(flow_audit, ["--suite", "toy", "--flow", "dis,dis", "--out", str(tmp_path)])
    assert "--flow names dis twice" in str(ran.exception)
