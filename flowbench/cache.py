"""Where FlowBench keeps what it fetched or computed once: outside the repository and outside the installed package."""

from __future__ import annotations

import os
from pathlib import Path

#: Names the folder, for machines whose home is small or shared.
CACHE_VARIABLE = "FLOWBENCH_CACHE"


def cache_folder() -> Path:
    """Return the folder: `$FLOWBENCH_CACHE`, else `flowbench` in the user's cache folder. It need not exist."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flowbench"
