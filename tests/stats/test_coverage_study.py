"""What docs/statistics.md says of coverage and errors is what its committed files hold."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / "docs" / "statistics"


def study():
    spec = importlib.util.spec_from_file_location("make_coverage_study", ROOT / "docs" / "make_coverage_study.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(name):
    return pd.read_csv(FILES / f"{name}.csv")


@pytest.mark.parametrize("name", ["single_rate", "paired", "unpaired"])
def test_the_committed_enumerations_are_those_of_this_code(name):
    committed, fresh = read(name), pd.DataFrame(study().PARTS[name]())
    assert len(committed) == len(fresh) > 50
    np.testing.assert_allclose(committed["coverage"], fresh["coverage"], atol=2e-5)


def test_wilson_covers_what_it_says_on_average_and_clopper_pearson_always():
    coverage = read("single_rate").set_index(["method", "n", "rate"])["coverage"]
    assert coverage["wilson"].mean() == pytest.approx(0.95, abs=0.01)
    for n in (10, 25, 50, 100, 500):
        assert coverage["wilson", n].mean() == pytest.approx(0.95, abs=0.01)
    assert coverage["clopper-pearson"].min() >= 0.95
    assert coverage["wilson"].min() == coverage["wilson", 25, 0.02] < 0.92, "the dips are near 0 and 1"


def test_intervals_of_differences_cover_what_they_say():
    for name in ("paired", "unpaired"):
        coverage = read(name).groupby("n")["coverage"].agg(["mean", "min"])
        assert coverage["min"].min() > 0.93
        assert coverage["mean"].min() >= 0.945
        assert coverage["mean"][coverage.index >= 50].max() <= 0.96
    unchanged = read("paired").query("difference == 0")
    assert unchanged["rejected"].max() <= 0.05, "an exact test never errs more often than it says"


def test_counting_scenarios_covers_where_counting_episodes_does_not():
    coverage = read("several_cameras").query("cameras == 3").groupby(["method", "together"])["coverage"].mean()
    assert coverage["scenarios count, tasks differ"].between(0.94, 0.98).all()
    assert coverage["every episode counts"][1.0] < 0.9
    paired = read("paired_cameras").set_index(["method", "difference", "together"])
    assert paired.loc["by scenario"]["coverage"].min() > 0.93
    assert paired.loc[("by scenario", 0.0), "rejected"].max() <= 0.05
    assert paired.loc[("every episode counts", 0.0), "rejected"].max() > 0.15


def test_planned_numbers_of_episodes_have_the_planned_power():
    assert read("power")["power"].between(0.79, 0.83).all()


@pytest.mark.parametrize("name", ["gate", "sequential"])
def test_the_gate_errs_as_seldom_as_alpha_allows(name):
    table = read(name)
    slack = 0.05 + 3 * np.sqrt(0.05 * 0.95 / table["repetitions"].min())
    unchanged = table.query("loss == 'none'")
    assert len(unchanged) >= 4
    assert unchanged["regression"].max() <= slack
    lost = table.query("loss == 'all -10'") if name == "gate" else table.query("loss == 'all -10' and margin == 0.1")
    assert (lost["held"] + lost["better"]).max() <= slack
    margin = table.query("loss == 'all -5'") if name == "gate" else table.query("loss == 'all -5' and margin == 0.05")
    assert (margin["held"] + margin["better"]).max() <= slack


def test_every_figure_of_the_page_is_there():
    text = (ROOT / "docs" / "statistics.md").read_text()
    figures = {path.name for path in FILES.glob("*.svg")}
    assert figures == {name for name in figures if f"statistics/{name}" in text} != set()


def test_the_page_says_which_intervals_are_within_a_point_of_what_they_promise():
    text = (ROOT / "docs" / "statistics.md").read_text()
    (section,) = [part for part in text.split("\n## ") if part.startswith("Which intervals are within")]
    means = {
        "Wilson": read("single_rate").query("method == 'wilson'"),
        "Clopper-Pearson": read("single_rate").query("method == 'clopper-pearson'"),
        "Tango, paired difference": read("paired"),
        "Newcombe, unpaired difference": read("unpaired"),
    }
    for name, table in means.items():
        (line,) = [line for line in section.splitlines() if line.startswith(f"| {name} |")]
        by_n = table.groupby("n")["coverage"].mean()
        shown = [f"{100 * by_n[n]:.1f}" if n in by_n else "" for n in (10, 25, 50, 100, 200, 500)]
        assert [cell.strip(" *") for cell in line.split("|")[2:-1]] == [*shown, f"{100 * table['coverage'].mean():.1f}"]
    clustered = read("several_cameras").query("method == 'scenarios count, tasks differ'")["coverage"]
    assert f"| **{100 * clustered.mean():.1f}** |" in section
    for table in (means["Wilson"]["coverage"], clustered):
        assert abs(table.mean() - 0.95) < 0.01
