"""How a result folder behaves with a million episodes: resume scan, table, and whether appending stays flat.

Run as `python benchmarks/store_scale.py [EPISODES]`.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from flowbench.manifest import RunManifest
from flowbench.result import EpisodeResult
from flowbench.spec import AgentSpec, EpisodeSpec, EvalSpec
from flowbench.store import EPISODES_NAME, ResultStore, encode_line
from flowbench.table_formats import to_markdown
from flowbench.tables import RunSummary, aggregate


def finished(episode: EpisodeSpec, number: int) -> EpisodeResult:
    """Return a made-up result of an episode; its outcome follows from its number."""
    status = ("success", "failure", "success", "error")[number * 7919 % 4]
    return EpisodeResult.of(
        episode,
        protocol="default",
        agent="random",
        privileged=False,
        status=status,
        steps=number % 100,
        first_success=number % 100 if status == "success" else None,
        total_reward=number / 7,
        seconds=0.1234,
        agent_seconds=0.0123,
        agent_calls=12,
        error="Agent random, after 3 steps: RuntimeError: no plan" if status == "error" else None,
    )


def append_ms(store: ResultStore, episodes: list[EpisodeSpec]) -> float:
    """Return the median milliseconds of appending one episode."""
    times = []
    for number, episode in enumerate(episodes):
        result = finished(episode, number)
        start = time.perf_counter()
        store.append(result)
        times.append(time.perf_counter() - start)
    return 1000 * median(times)


def main() -> None:
    """Print one Markdown row per number."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    spec = EvalSpec(
        "toy", "default", AgentSpec("random"), ("reach", "push"), ("front", "side"), tuple(range(count // 4 + 100))
    )
    episodes = spec.episodes()
    manifest = RunManifest.collect(spec, command="benchmark", privileged=False, device="cpu", renderer={})
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        with ResultStore.open(folder, manifest) as store:
            empty_ms = append_ms(store, episodes[:200])
        with (folder / EPISODES_NAME).open("ab") as file:
            file.writelines(encode_line(finished(episode, n)) for n, episode in enumerate(episodes[200:count]))
        start = time.perf_counter()
        with ResultStore.open(folder, manifest) as store:
            scan_s = time.perf_counter() - start
            full_ms = append_ms(store, episodes[count : count + 200])
        start = time.perf_counter()
        to_markdown(aggregate([RunSummary.read(folder)]), "benchmark")
        table_s = time.perf_counter() - start
        size_mb = (folder / EPISODES_NAME).stat().st_size / 1e6
    command = f"python benchmarks/store_scale.py {count}"
    print(f"| resume scan of {count:,} episodes ({size_mb:.0f} MB) | {scan_s:.1f} s | `{command}` |")
    print(f"| table of {count:,} episodes | {table_s:.1f} s | `{command}` |")
    print(f"| append, full folder against empty | {full_ms / empty_ms:.2f}x ({full_ms:.2f} ms) | `{command}` |")


if __name__ == "__main__":
    main()
