"""Make the pictures of docs/report.md: an expert with two amounts of noise, under a camera sweep of the toy suite.

Run as `python docs/make_report_pictures.py`; takes minutes. Needs the extras `video` and `browser-tests`, and Chromium.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from flowbench.agent import Needs
from flowbench.agents.scripted import ScriptedAgent
from flowbench.camera import CameraParams
from flowbench.observation import Observation
from flowbench.task import Task

IMAGES = Path(__file__).parent / "images"


class NoisyExpert(ScriptedAgent):
    """The scripted expert with a constant error per episode that grows as the camera moves aside."""

    needs = Needs(modalities=("rgb",), privileged=True)

    def __init__(self, noise: float = 0.1) -> None:
        super().__init__()
        self.noise = noise

    def reset(self, task: Task, cameras: Mapping[str, CameraParams], seed: int) -> None:
        """Draw the error of this episode; few episodes break."""
        super().reset(task, cameras, seed)
        self._rng = np.random.default_rng(seed)
        aside_m = abs(next(iter(cameras.values())).camera_to_world[0, 3])
        self._scale = self.noise * (0.4 + 3 * aside_m)
        self._error = self._rng.normal(size=task.action_spec.size) * self._scale
        self._breaks = self._rng.random() < 0.02

    def act(self, observation: Observation) -> np.ndarray:
        """Return the expert's action with the error and some noise.

        Raises:
            RuntimeError: In few episodes, to show what the page makes of it.
        """
        if self._breaks:
            raise RuntimeError("the planner returned no plan")
        action = super().act(observation)
        noise = self._rng.normal(size=action.shape) * self._scale
        return np.clip(action + self._error + noise, -1, 1)


def main() -> None:
    """Evaluate, report, and photograph the page."""
    from playwright.sync_api import sync_playwright

    scratch = Path(tempfile.mkdtemp())
    shutil.copy(__file__, scratch / "noisy_expert.py")
    for name, noise in (("little-noise", 0.05), ("more-noise", 0.12)):
        flowbench(
            *("eval", "--agent", "noisy_expert.py:NoisyExpert", "--agent-args", f"noise={noise}"),
            *("--suite", "toy", "--camera-sweep", "az=-20:20:10", "--seeds", "0-7", "--max-steps", "60"),
            *("--record", "failures", "--max-errors", "100", "--quiet", "--out", name),
            cwd=scratch,
        )
    flowbench("report", "little-noise", "more-noise", cwd=scratch)
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    flags = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=flags)
        for name, scheme, width, height, section in (
            ("report-light", "light", 1100, 1500, "body"),
            ("report-dark", "dark", 1100, 1150, "#episodes"),
            ("report-phone", "light", 375, 1500, "#tasks"),
        ):
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            page.goto((scratch / "report.html").as_uri())
            page.locator(section).evaluate("element => element.scrollIntoView()")
            # The videos that came into view are unpacked and drawn.
            page.wait_for_timeout(3000)
            page.screenshot(path=IMAGES / f"{name}.png")
        browser.close()
    shutil.rmtree(scratch)


def flowbench(*arguments: str, cwd: Path) -> None:
    """Run a command of ours."""
    ran = subprocess.run([sys.executable, "-m", "flowbench", *arguments], cwd=cwd)
    if ran.returncode not in (0, 5):
        sys.exit(ran.returncode)


if __name__ == "__main__":
    main()
