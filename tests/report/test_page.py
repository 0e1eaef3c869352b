"""The page as HTML: what it says, that it is well formed and accessible, and that nobody else's text becomes markup."""

import base64
import hashlib
import re
import shutil
from dataclasses import replace

import pytest

from flowbench.errors import BadValue
from flowbench.report import ReportOptions, collect, render
from flowbench.store import EPISODES_NAME, ResultStore, encode_line
from flowbench.tables import RunSummary, aggregate

SWEEP = ("front+az-10", "front", "front+az10")


@pytest.fixture
def page(parse, tmp_path):
    """Return a function that reports on runs and parses the page."""

    def make(*folders, **options):
        return parse(render(collect(folders, tmp_path, ReportOptions(**options)), "flowbench report r1"))

    return make


def mostly(episode):
    """Two of five scenarios fail; every push from the third on breaks."""
    if episode.task == "push" and episode.scenario.seed >= 2:
        return "error"
    return "failure" if episode.scenario.seed >= 3 else "success"


def change_results(folder, change):
    """Rewrite the episodes of a run."""
    results = [change(result) for result in ResultStore.read(folder).results]
    (folder / EPISODES_NAME).write_bytes(b"".join(map(encode_line, results)))


def test_every_rate_stands_with_its_interval_as_in_the_table(write_run, page):
    folders = [write_run("r1", mostly), write_run("r2", agent="scripted", privileged=True)]
    (score, other) = aggregate([RunSummary.read(folder) for folder in folders], ("overall",)).rows[0].scores
    tree = page(*folders)
    cards = [card.text for card in tree.one("summary").all("li") if "card" in card.classes]
    assert len(cards) == 2
    assert f"{100 * score.rate:.1f}% [{100 * score.low:.1f}, {100 * score.high:.1f}]" in cards[0]
    assert "errors 6" in cards[0] and "missing 0" in cards[0]
    assert "scripted (privileged)" in cards[1] and f"episodes {other.n}" in cards[1]
    rows = [row.text for row in tree.one("tasks").all("tr")]
    assert rows[1] == "reach random 60.0 [23.1, 88.2] 10 0"
    assert rows[3].startswith("push random 100.0 [34.2, 100.0] 4 6")
    assert any("an error" in note.text or "errors are episodes" in note.text for note in tree.one("summary").all("li"))


def test_a_dot_lies_where_its_rate_is_and_its_whisker_ends_at_the_interval(write_run, page):
    tree = page(write_run("r1", mostly))
    plot = next(svg for svg in tree.one("tasks").all("svg") if "row-plot" in svg.classes)
    (dot,) = (svg for svg in plot.all("svg") if "mark" in svg.classes)
    (whisker,) = (line for line in plot.all("line") if "whisker" in line.classes)
    assert dot.attributes["x"] == "60.00%"
    assert (whisker.attributes["x1"], whisker.attributes["x2"]) == ("23.07%", "88.24%")


def test_text_of_others_is_escaped_everywhere(write_run, page, record, tmp_path):
    attack = "<script>alert('x')</script><img src=x onerror=alert(1)>&amp;\"'"
    folder = write_run("r1", mostly, agent=attack, cameras=SWEEP, versions={attack: attack})
    change_results(folder, lambda result: replace(result, error=attack if result.error else None))
    other = write_run("r2", mostly, agent="</title></style><b>", cameras=SWEEP)
    record(folder, [result.id for result in ResultStore.read(folder).results])
    log = tmp_path / "<i>.csv"
    log.write_text(f'step,"{attack.replace(chr(34), chr(34) * 2)}"\n0,1\n1,2\n')
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "<u> & 'x'.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    tree = page(folder, other, training_logs=(log,), pictures=pictures)
    scripts = [script for script in tree.all("script") if script.attributes.get("type") != "text/plain"]
    assert len(scripts) == 1 and "alert(" not in scripts[0].text
    assert {image.attributes["alt"] for image in tree.all("img")} == {"<u> & 'x'.png"}
    assert all(re.fullmatch(r"[\d.]+|–", bold.text) for bold in tree.all("b")) and not tree.all("i", "u")
    assert not [element for element in tree.all() if any(name.startswith("on") for name in element.attributes)]
    assert attack in tree.one("errors").text
    assert tree.one("training").all("h3")[0].text == " ".join(attack.split())
    assert tree.all("title")[0].text.startswith(attack)


def test_the_page_loads_nothing_and_runs_only_its_own_script(write_run, record, tmp_path):
    folder = write_run("r1", mostly)
    record(folder, [result.id for result in ResultStore.read(folder).results][:3])
    text = render(collect([folder], tmp_path))
    assert "http:" not in text and "https:" not in text and "@import" not in text and "url(" not in text
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; ") and f"script-src 'sha256-{digest}';" in policy


def test_headings_landmarks_and_names_are_there_for_a_screen_reader(write_run, page, record):
    folders = [write_run("r1", mostly, cameras=SWEEP), write_run("r2", mostly, cameras=SWEEP, agent="zero")]
    record(folders[0], [result.id for result in ResultStore.read(folders[0]).results][::2])
    tree = page(*folders)
    assert tree.all("html")[0].attributes["lang"] == "en"
    assert [len(tree.all(tag)) for tag in ("h1", "main", "nav", "header", "footer")] == [1] * 5
    levels = [int(heading.tag[1]) for heading in tree.all("h1", "h2", "h3", "h4")]
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:]))
    identifiers = [element.attributes["id"] for element in tree.all() if "id" in element.attributes]
    assert len(identifiers) == len(set(identifiers))
    for link in tree.all("a"):
        target = link.attributes["href"]
        assert link.text and (not target.startswith("#") or target[1:] in identifiers)
    for element in tree.all():
        for reference in ("aria-labelledby", "data-clip", "data-copy"):
            assert element.attributes.get(reference, identifiers[0]) in identifiers
    for button in tree.all("button", "video"):
        assert button.attributes.get("aria-label") or button.text
    for select in tree.all("select"):
        assert select.parent.tag == "label"
    for cell in tree.all("th"):
        assert cell.attributes["scope"] in ("col", "row", "rowgroup")
    for scroller in (element for element in tree.all("div") if "scroll" in element.classes):
        assert scroller.attributes["tabindex"] == "0" and scroller.attributes["aria-label"]
    outer = [svg for svg in tree.all("svg") if svg.parent.tag != "svg"]
    assert outer and all(svg.attributes["aria-hidden"] == "true" for svg in outer)
    charts = [chart for chart in tree.all("div") if "chart" in chart.classes]
    assert charts and all(chart.attributes["role"] == "img" and chart.attributes["aria-label"] for chart in charts)


def test_sections_without_content_are_left_out(write_run, page):
    tree = page(write_run("r1", cameras=("front",)))
    identifiers = {element.attributes.get("id") for element in tree.all("section")}
    assert identifiers == {"summary", "tasks", "episodes", "lengths", "provenance"}
    assert "No episode failed." in tree.one("episodes").text


def test_a_task_of_which_nothing_counted_has_a_dash_and_no_dot(write_run, page):
    tree = page(write_run("r1", lambda episode: "error" if episode.task == "push" else None))
    row = next(row for row in tree.one("tasks").all("tr") if row.text.startswith("push"))
    assert "–" in row.text and not [svg for svg in row.all("svg") if "mark" in svg.classes]
    assert "nan" not in tree.text.lower().split()


def test_missing_episodes_and_notes_are_told(write_run, page):
    tree = page(write_run("r1", lambda episode: "success" if episode.scenario.seed < 2 else None))
    assert "missing 12" in tree.one("summary").text
    assert "is not finished: 12 of 20 episodes have no result yet." in tree.one("summary").text


def test_the_manifest_is_shown_with_the_command_to_run_again(write_run, page):
    folder = write_run("r1")
    tree = page(folder)
    manifest = RunSummary.read(folder).manifest
    assert tree.one("command-0").text == manifest.command
    provenance = tree.one("provenance").text
    for text in (manifest.created, manifest.spec.digest, manifest.versions["numpy"], manifest.platform["python"]):
        assert text in provenance
    assert '"suite_version": 1' in provenance


def test_the_order_in_which_workers_finished_does_not_show(write_run, tmp_path):
    folder = write_run("r1", mostly)
    before = render(collect([folder], tmp_path))
    path = folder / EPISODES_NAME
    path.write_bytes(b"".join(reversed(path.read_bytes().splitlines(keepends=True))))
    assert render(collect([folder], tmp_path)) == before


def test_runs_of_different_rules_are_refused_unless_asked_for(write_run, page):
    folders = [write_run("r1"), write_run("r2", protocol="hard")]
    with pytest.raises(BadValue, match="The runs are not comparable: protocol: default .*, hard "):
        page(*folders)
    assert "Not comparable, shown together on request." in page(*folders, allow_mixed=True).one("summary").text


def test_suites_side_by_side_keep_their_tasks_apart(write_run, page, tmp_path):
    first = write_run("r1", mostly)
    second = write_run("r2", suite="metaworld11", tasks=("door-open",), cameras=("corner",))
    tree = page(first, second, allow_mixed=True)
    names = [cell.text for cell in tree.one("lengths").all("th") if cell.attributes["scope"] == "rowgroup"]
    assert names == ["toy/reach", "toy/push", "metaworld11/door-open"]


def test_a_report_needs_a_run(tmp_path):
    with pytest.raises(BadValue, match="A report needs at least one run. Give its folder: flowbench report"):
        collect([], tmp_path)


def test_a_run_moved_elsewhere_gives_the_same_scores(write_run, page, tmp_path):
    folder = write_run("r1", mostly)
    before = page(folder).one("tasks").text
    shutil.move(folder, tmp_path / "moved")
    assert page(tmp_path / "moved").one("tasks").text == before
