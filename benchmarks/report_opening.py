"""How long a report of a thousand episodes with fifty videos takes to open in Chromium, and to be made.

Run as `python benchmarks/report_opening.py`; needs the extras `video` and `browser-tests`, and an installed Chromium.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from flowbench.manifest import RunManifest
from flowbench.recording import video_path, write_video
from flowbench.report import ReportOptions, collect, write_page
from flowbench.result import EpisodeResult
from flowbench.spec import AgentSpec, EvalSpec
from flowbench.store import ResultStore

TASKS = ("reach", "push")
CAMERAS = ("front+az-20", "front+az-10", "front", "front+az10", "front+az20")
SCENARIOS = 100
VIDEOS = 50
OPENINGS = 5


def write_run(folder: Path) -> None:
    """Store a thousand made-up episodes, every fourth a failure, with a video of the first fifty failures."""
    spec = EvalSpec("toy", "default", AgentSpec("random"), TASKS, CAMERAS, tuple(range(SCENARIOS)))
    manifest = RunManifest.collect(spec, command="benchmark", privileged=False, modalities=("rgb",))
    failures = []
    with ResultStore.open(folder, manifest) as store:
        for number, episode in enumerate(spec.episodes()):
            status = "failure" if number % 4 == 0 else "success"
            failures += [episode.id] if status == "failure" else []
            store.append(
                EpisodeResult.of(
                    episode,
                    protocol="default",
                    agent="random",
                    privileged=False,
                    status=status,
                    steps=200 if status == "failure" else 20 + number % 150,
                    first_success=None if status == "failure" else 20 + number % 150,
                    total_reward=1.0,
                    seconds=0.1,
                    agent_seconds=0.01,
                    agent_calls=12,
                )
            )
    rng = np.random.default_rng(0)
    # Moving texture under grain makes a file of half a megabyte, which is more than a real episode of 200 steps has.
    ground = np.kron(rng.integers(60, 200, (30, 60, 3)), np.ones((8, 8, 1)))
    frames = [
        (np.roll(ground, step, axis=1)[:, :320] + rng.normal(0, 1.5, (240, 320, 1))).clip(0, 255).astype(np.uint8)
        for step in range(200)
    ]
    first = video_path(folder, failures[0])
    write_video(first, frames)
    for identifier in failures[1:VIDEOS]:
        shutil.copy(first, video_path(folder, identifier))


def opening_seconds(page_path: Path) -> tuple[list[float], list[float]]:
    """Return the seconds until the page is loaded, and until the first row of videos shows a frame, of each opening."""
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    flags = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    loaded, seen = [], []
    with sync_playwright() as driver:
        for _ in range(OPENINGS):
            # A fresh browser each time: nothing is cached.
            browser = driver.chromium.launch(executable_path=chromium, args=flags)
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            start = time.perf_counter()
            page.goto(page_path.as_uri(), wait_until="load")
            loaded.append(time.perf_counter() - start)
            start = time.perf_counter()
            page.evaluate("document.getElementById('gallery').scrollIntoView()")
            while not page.evaluate(
                "[...document.querySelectorAll('video')].slice(0, 4).every((video) => video.readyState >= 2)"
            ):
                time.sleep(0.01)
            seen.append(time.perf_counter() - start)
            browser.close()
    return loaded, seen


def main() -> None:
    """Print one Markdown row per number."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, page_path = Path(scratch) / "run", Path(scratch) / "report.html"
        write_run(folder)
        start = time.perf_counter()
        report = collect([folder], page_path.parent, ReportOptions(max_video_mb=1000))
        write_page(report, page_path)
        made = time.perf_counter() - start
        embedded = [clip for clip in report.gallery.clips if clip.video.base64]
        assert len(embedded) == VIDEOS and len(report.runs[0].episodes) == 1000
        loaded, seen = opening_seconds(page_path)
        megabytes = page_path.stat().st_size / 1e6
    command = "`python benchmarks/report_opening.py`"
    print(f"| made ({megabytes:.0f} MB, videos of {embedded[0].video.megabytes:.2f} MB) | {made:.1f} s | {command} |")
    print(f"| opened, median and worst of {OPENINGS} | {median(loaded):.2f} s, {max(loaded):.2f} s | {command} |")
    print(f"| first row of videos shows a frame after scrolling to it | {median(seen):.2f} s | {command} |")


if __name__ == "__main__":
    main()
