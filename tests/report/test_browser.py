"""The page in a real browser: no console message, no network, nothing wider than the screen, videos that play.

Needs Playwright and an installed Chromium; else the tests are skipped and say so.
"""

import os
import shutil
import time

import pytest

from flowbench.report import ReportOptions, collect, write_page
from flowbench.store import ResultStore

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SWEEP = ("front+az-20", "front+az-10", "front", "front+az10", "front+az20")
SIZES = {"desktop": (1280, 900), "phone": (375, 812)}


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
    if CHROMIUM is None:
        pytest.skip("needs Chromium, e.g. apt-get install chromium")
    with playwright.sync_playwright() as driver:
        # Chromium's own sandbox cannot be set up by root, as in most containers.
        flags = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--disable-gpu", *flags])
        yield chromium
        chromium.close()


@pytest.fixture
def path(write_run, record, tmp_path):
    """Write a report that has every section, with long names and text that would be markup."""

    def outcome(episode):
        if episode.task == "push" and episode.scenario.seed == 4:
            return "error"
        return "success" if episode.scenario.seed < 4 - abs(SWEEP.index(episode.camera) - 2) else "failure"

    agent = "package.subpackage.module:AnAgentWithAVeryLongName<script>alert(1)</script>"
    folders = [
        write_run("r1", outcome, cameras=SWEEP),
        write_run("r2", outcome, cameras=SWEEP, agent=agent, privileged=True),
    ]
    for folder in folders:
        record(folder, [result.id for result in ResultStore.read(folder).results if result.status != "success"])
    log = tmp_path / "training.csv"
    log.write_text("step,loss,val_loss\n" + "".join(f"{step},{1 / (1 + step)},{0.5 + step}\n" for step in range(99)))
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    shutil.copy(PICTURE, pictures / "flow.png")
    options = ReportOptions(training_logs=(log,), pictures=pictures)
    write_page(collect(folders, tmp_path, options), tmp_path / "report.html", "flowbench report r1 r2")
    return tmp_path / "report.html"


PICTURE = os.path.join(os.path.dirname(__file__), "..", "..", "docs", "images", "observations.png")


@pytest.fixture
def open_page(browser, path):
    """Return a function that opens the report; whatever the console or the network says fails the test at its end."""
    contexts, heard = [], []

    def open_it(size="desktop", scheme="light", **options):
        width, height = SIZES[size]
        viewport = {"width": width, "height": height}
        context = browser.new_context(color_scheme=scheme, viewport=viewport, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: heard.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: heard.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (heard.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: heard.append(f"request: {request.url[:80]}") if outside(request) else None)
        page.goto(path.as_uri())
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert heard == []


def outside(request):
    return not request.url.startswith(("file:", "blob:", "data:"))


def until(page, expression, seconds=20):
    """Wait for an expression; Playwright's own wait needs `eval`, which the page's policy forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"still not: {expression}"
        time.sleep(0.05)


def scroll_through(page):
    page.evaluate(
        """async () => {
            for (let y = 0; y < document.documentElement.scrollHeight; y += 400) {
                window.scrollTo(0, y);
                await new Promise((done) => setTimeout(done, 20));
            }
        }"""
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_screen_and_the_console_is_silent(open_page, size, scheme, tmp_path):
    page = open_page(size, scheme)
    scroll_through(page)
    assert page.locator("h1").is_visible()
    # What is wider than its place must scroll there, by touch and by key.
    cut_off = page.evaluate(
        """() => [...document.querySelectorAll("main *")].filter((element) => {
            const box = element.getBoundingClientRect();
            return box.width > 1 && box.right > window.innerWidth + 1 && !element.closest(".scroll");
        }).map((element) => element.outerHTML.slice(0, 80))"""
    )
    assert cut_off == []
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]
    picture = page.screenshot(path=tmp_path / "page.png", full_page=True)
    assert len(picture) > 50_000
    for section in page.locator("section").all():
        assert section.bounding_box()["height"] > 60


def test_small_text_has_enough_contrast_in_both_themes(open_page):
    for scheme in ("light", "dark"):
        page = open_page("desktop", scheme)
        low = page.evaluate(
            """() => {
                const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
                const rgba = (color) => {
                    context.clearRect(0, 0, 1, 1);
                    context.fillStyle = color;
                    context.fillRect(0, 0, 1, 1);
                    return [...context.getImageData(0, 0, 1, 1).data];
                };
                const luminance = (color) => rgba(color).slice(0, 3).map((v) => v / 255)
                    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
                    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
                const ground = (element) => {
                    const color = getComputedStyle(element).backgroundColor;
                    return rgba(color)[3] > 0 || !element.parentElement ? color : ground(element.parentElement);
                };
                // Every rate a cell can have, not only those of this run.
                const cells = document.querySelector(".heat tbody");
                for (let rate = 0; rate <= 100; rate += 1) {
                    const row = cells.insertRow();
                    const over = (rate > 56 ? " over56" : "") + (rate > 67 ? " over67" : "");
                    row.innerHTML = `<td class="cell${over}" style="--rate:${rate}%">${rate}<small>1</small></td>`;
                }
                const found = [];
                for (const element of document.querySelectorAll("body *")) {
                    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
                    if (!own || !element.getClientRects().length || element.closest(".unseen, svg")) continue;
                    const [a, b] = [luminance(getComputedStyle(element).color), luminance(ground(element))];
                    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
                    if (contrast < 4.5) found.push(`${contrast.toFixed(2)} ${element.outerHTML.slice(0, 80)}`);
                }
                return found;
            }"""
        )
        assert low == [], scheme


def test_the_theme_button_overrules_the_system_and_is_remembered(open_page):
    page = open_page("desktop", "light")
    ground = "getComputedStyle(document.body).backgroundColor"
    button = page.locator("#theme")
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    button.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-label") == "Theme: dark. Change it."
    assert page.evaluate(ground) == "rgb(20, 23, 28)"
    page.reload()
    assert page.evaluate(ground) == "rgb(20, 23, 28)"
    button.click()
    assert page.evaluate(ground) == "rgb(255, 255, 255)"


def test_a_video_waits_until_it_is_seen_and_then_plays(open_page):
    page = open_page()
    sources = "[...document.querySelectorAll('video')].filter((video) => video.src).length"
    assert page.evaluate(sources) == 0
    page.locator("#episodes").scroll_into_view_if_needed()
    first = page.locator(".clip").first
    play = first.locator("button.play")
    play.wait_for(state="visible")
    video = first.locator("video")
    until(page, "document.querySelector('video').readyState >= 2")
    # It waits at its end, where a failure can be seen.
    until(page, "document.querySelector('video').currentTime > 0.5")
    assert video.evaluate("video => [video.videoWidth, video.videoHeight, video.paused]") == [128, 96, True]
    play.focus()
    page.keyboard.press("Enter")
    until(page, "!document.querySelector('video').paused")
    until(page, "document.querySelector('video').currentTime < 0.5")
    assert not play.is_visible() and video.evaluate("video => video.controls")
    assert page.evaluate(sources) < page.locator("video").count()


def test_filters_show_the_chosen_task_and_more_on_request(open_page):
    page = open_page()
    shown = page.locator("#gallery .clip:visible")
    assert shown.count() == 12
    count = page.locator("#gallery .clip").count()
    assert page.locator("#filters output").inner_text() == f"12 of {count} shown"
    page.locator("#more").click()
    assert shown.count() == 24
    page.locator("select[name=task]").select_option("push")
    page.locator("select[name=run]").select_option("1")
    assert 0 < shown.count() <= 12
    assert all("/push@" in text for text in shown.locator(".id").all_inner_texts())
    assert set(shown.evaluate_all("clips => clips.map((clip) => clip.dataset.run)")) == {"1"}


def test_the_command_is_copied_as_it_was_typed(open_page, write_run):
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    page.locator("button.copy").first.click()
    page.locator("button.copy", has_text="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == "flowbench eval --agent random --suite toy"


def test_without_scripts_everything_but_the_videos_is_there(open_page):
    page = open_page(java_script_enabled=False)
    assert page.get_by_text("Videos are unpacked by a script, and scripts are switched off.").is_visible()
    assert page.locator("#tasks .row-plot").first.is_visible()
    assert not page.locator("#theme").is_visible()
