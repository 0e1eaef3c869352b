"""The progress bar of an evaluation: how far, and how well so far."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from tqdm import tqdm

from flowbench.result import EpisodeResult
from flowbench.stats import wilson_interval


class EvalProgress:
    """Shows episodes done, the running success rate with its 95 % Wilson interval, and the errors beside it.

    On a terminal the bar is redrawn often; in a log file a line is written at most every 30 seconds.
    """

    def __init__(self, total: int, before: Iterable[EpisodeResult] = (), *, enabled: bool = True) -> None:
        """Start at what an interrupted run had already finished.

        Args:
            total: Number of episodes of the whole evaluation.
            before: Results that are already stored.
            enabled: Whether to show anything.
        """
        self._counts = {"success": 0, "failure": 0, "error": 0}
        before = list(before)
        for result in before:
            self._counts[result.status] += 1
        quiet = not sys.stderr.isatty()
        self._bar = tqdm(
            total=total,
            initial=len(before),
            unit="ep",
            disable=not enabled,
            dynamic_ncols=True,
            mininterval=30.0 if quiet else 0.2,
            file=sys.stderr,
        )

    def add(self, result: EpisodeResult) -> None:
        """Count one more episode."""
        self._counts[result.status] += 1
        self._bar.set_postfix_str(self.summary(), refresh=False)
        self._bar.update()

    def summary(self) -> str:
        """Return e.g. `success 86.7 % [70.3, 94.7], 1 error`."""
        successes, errors = self._counts["success"], self._counts["error"]
        carried_out = successes + self._counts["failure"]
        text = "no episode carried out yet"
        if carried_out:
            low, high = wilson_interval(successes, carried_out)
            text = f"success {100 * successes / carried_out:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
        return text + (f", {errors} error{'s' * (errors > 1)}" if errors else "")

    def __enter__(self) -> EvalProgress:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._bar.close()
