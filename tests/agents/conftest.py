"""Demonstrations that trainable agents are tried on."""

from pathlib import Path

import pytest

from flowbench.data.collect import CollectOptions, collect
from flowbench.data.collect_spec import CollectSpec
from flowbench.spec import AgentSpec


@pytest.fixture(scope="session")
def toy_demos(tmp_path_factory) -> Path:
    """A file of the toy suite: two demonstrations each of reach and lift, seen from front and side; not to be changed."""
    path = tmp_path_factory.mktemp("demonstrations") / "toy.h5"
    spec = CollectSpec(
        suite="toy",
        protocol="default",
        agent=AgentSpec("scripted"),
        tasks=("reach", "lift"),
        cameras=("front", "side"),
        seeds=tuple(range(10_000, 10_020)),
        image_size=(32, 24),
        modalities=("rgb",),
        demonstrations=2,
        max_attempts=10,
    )
    collect(spec, path, CollectOptions(workers=0, progress=False))
    return path
