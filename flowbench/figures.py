"""What every Matplotlib figure needs: the extra is named where it is missing, and files appear only when complete."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from flowbench.atomic import write_atomically
from flowbench.errors import missing_extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def check_matplotlib(what: str) -> None:
    """Check that `what` can be drawn.

    Raises:
        MissingExtra: With the command that installs Matplotlib.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise missing_extra(what, "plots", error) from error


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches, whose parts keep clear of each other."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def write_figure(figure: Figure, path: Path) -> None:
    """Write a figure as an image, of the kind that the ending of the name says: `.png`, `.svg` or `.pdf`."""
    path = Path(path)
    write_atomically(path, lambda temporary: figure.savefig(temporary, format=path.suffix.lstrip("."), dpi=200))
