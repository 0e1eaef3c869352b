"""Where a training's numbers go: a CSV that `flowbench report --training-log` draws, TensorBoard, and the progress bar."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Mapping
from pathlib import Path

from tqdm import tqdm

from flowbench.atomic import write_text_atomically

#: TensorBoard's files, in the training's folder.
TENSORBOARD = "tensorboard"


class TrainingLog:
    """The log of one stage.

    The CSV has the column `step` and one per quantity, empty where nothing was measured. A log that goes on after an
    interruption first forgets what came after the state that it goes on from.
    """

    def __init__(self, folder: Path, stage: str, total: int, done: int, *, alone: bool, progress: bool) -> None:
        """Open a log.

        Args:
            folder: The training's folder.
            stage: Name of the stage.
            total: Steps of the stage.
            done: Finished steps.
            alone: Whether the training has no other stage.
            progress: Whether to show a bar.
        """
        self.path = folder / ("log.csv" if alone else f"log-{stage}.csv")
        self._prefix = "" if alone else f"{stage}/"
        self._rows = _rows_until(self.path, done)
        self._columns: list[str] = list(self._rows[0]) if self._rows else []
        self._board = _board(folder / TENSORBOARD, done)
        quiet = not sys.stderr.isatty()
        self._bar = tqdm(
            total=total,
            initial=done,
            desc=stage,
            unit="step",
            disable=not progress,
            dynamic_ncols=True,
            mininterval=30.0 if quiet else 0.5,
            file=sys.stderr,
        )
        self._shown: dict[str, str] = {}
        if self._rows:
            self._rewrite()

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Write numbers of a step; several calls for one step make one row."""
        if self._rows and int(self._rows[-1]["step"]) == step:
            self._rows[-1] |= {name: repr(value) for name, value in values.items()}
            self._columns += [name for name in values if name not in self._columns]
            self._rewrite()
        else:
            self._rows.append({"step": str(step)} | {name: repr(value) for name, value in values.items()})
            unseen = [name for name in self._rows[-1] if name not in self._columns]
            self._columns += unseen
            if unseen:
                self._rewrite()
            else:
                with self.path.open("a", newline="") as file:
                    csv.DictWriter(file, self._columns, restval="", lineterminator="\n").writerow(self._rows[-1])
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(self._prefix + name, value, step)

    def show(self, step: int, values: Mapping[str, float]) -> None:
        """Move the progress bar to a step and show numbers beside it."""
        self._shown |= {name: f"{value:.4g}" for name, value in values.items()}
        self._bar.set_postfix(self._shown, refresh=False)
        self._bar.update(step - self._bar.n)

    def rate(self, step: int, steps_per_s: float) -> None:
        """Write the speed to TensorBoard; it is no result, so it is not in the CSV."""
        if self._board is not None:
            self._board.add_scalar(f"{self._prefix}steps_per_s", steps_per_s, step)

    def close(self) -> None:
        """Finish the files."""
        self._bar.close()
        if self._board is not None:
            self._board.close()

    def _rewrite(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        # A training that is killed here must not lose its curve.
        write_text_atomically(self.path, text.getvalue())


def _rows_until(path: Path, step: int) -> list[dict[str, str]]:
    """Return the rows of an interrupted log up to a step; a torn last line is dropped."""
    if step == 0 or not path.exists():
        return []
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("step", "").isdigit() and None not in row.values()]
    return [row for row in rows if int(row["step"]) <= step]


def _board(folder: Path, done: int):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=done + 1 if done else None)
