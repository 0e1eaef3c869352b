"""What a training step costs with data from disk against the same step on tensors in memory, and what bc costs in an episode.

Writes a recording of its own with Meta-World's frames (320x240, gzip), whose pictures compress about as well as rendered ones.
The two kinds of step take turns; the medians of the turns are compared.

    python benchmarks/training.py [threads]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import torch

from flowbench.agents.bc.model import BCNetwork
from flowbench.agents.bc.recipe import BCRecipe
from flowbench.agents.training.loop import fetched, make_optimiser
from flowbench.agents.training.presets import load_settings
from flowbench.agents.training.recipe import Moment
from flowbench.agents.training.sources import Sources
from flowbench.agents.training.state import DataOrder
from flowbench.registry import get_suite

EPISODES, STEPS, WIDTH, HEIGHT = 20, 80, 320, 240
TURNS, STEPS_PER_TURN = 7, 8


def write(path: Path) -> None:
    """Write demonstrations of a smooth, grainy scene."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] / HEIGHT
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs.update(flowbench_format=1, cameras='["corner"]', num_demos=EPISODES)
        for number in range(EPISODES):
            phases = np.arange(STEPS)[:, None, None, None] / 40 + np.arange(3) + number
            waves = 128 + 90 * np.sin(6 * rows[..., None] + 4 * columns[..., None] + phases)
            images = (waves + rng.normal(0, 2, waves.shape)).clip(0, 255).astype(np.uint8)
            demo = data.create_group(f"demo_{number}")
            demo.attrs.update(
                num_samples=STEPS, suite="metaworld11", task="door-open", instruction="door open", success=True
            )
            demo["actions"] = rng.uniform(-1, 1, (STEPS, 4))
            demo["obs/proprio"] = rng.uniform(-1, 1, (STEPS, 4)).astype(np.float32)
            demo.create_dataset("obs/corner_rgb", data=images, chunks=(1, *images.shape[1:]), compression="gzip")


def main() -> None:
    """Print both ratios."""
    if len(sys.argv) > 1:
        torch.set_num_threads(int(sys.argv[1]))
    recipe = BCRecipe()
    settings = load_settings(recipe, "small", "metaworld11", ["precision=fp32"])
    config, stage = settings.config, settings.stages["train"]
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "d.h5")
        sources = Sources((Path(folder) / "d.h5",), get_suite("metaworld11"), cache=Path(folder) / "frames")
        facts = recipe.facts(config, sources)
        before = time.perf_counter()
        data = recipe.data(config, facts, sources, "train", "train")
        decoding_s, frames = time.perf_counter() - before, int(data.cached_bytes / (3 * np.prod(config.image_size)))
        network = recipe.build(config, facts)
        optimiser = make_optimiser(network.parameters(), stage)
        order, device = DataOrder(len(data), stage.batch_size, 0), torch.device("cpu")

        def step(batch: dict[str, torch.Tensor], number: int) -> None:
            loss, _ = recipe.loss(network, batch, Moment("train", number, True, torch.Generator().manual_seed(number)))
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()

        cached = data.batch(order.indices(1))
        from_memory, from_disk, number = [], [], 1
        for turn in range(TURNS):
            start = time.perf_counter()
            for _ in range(STEPS_PER_TURN):
                step(cached, number)
            middle = time.perf_counter()
            for later, batch in fetched(data, order, number + 1, number + STEPS_PER_TURN, device):
                step(batch, later)
            number += STEPS_PER_TURN
            if turn:  # the first turn warms up
                from_memory.append((middle - start) / STEPS_PER_TURN)
                from_disk.append((time.perf_counter() - middle) / STEPS_PER_TURN)
    memory_s, disk_s = statistics.median(from_memory), statistics.median(from_disk)
    print(f"bc small, batch {stage.batch_size}, {torch.get_num_threads()} threads")
    print(f"decoding once: {1000 * decoding_s / frames:.2f} ms a frame")
    print(
        f"step on data from disk {1000 * disk_s:.0f} ms, on tensors in memory {1000 * memory_s:.0f} ms: "
        f"{100 * (disk_s / memory_s - 1):+.1f} %"
    )
    print(
        f"one look of bc small at a 128x128 frame: {1000 * inference_s(network.eval(), cached):.1f} ms of CPU time, one thread"
    )


def inference_s(network: BCNetwork, batch: dict[str, torch.Tensor]) -> float:
    """Return the median CPU time of one forward pass on one sample with one thread, as evaluation workers have."""
    torch.set_num_threads(1)
    one = {name: value[:1] for name, value in batch.items()}
    times = []
    with torch.inference_mode():
        for _ in range(30):
            start = time.process_time()
            network.actions(network(*network.inputs(one, False, torch.Generator())))
            times.append(time.process_time() - start)
    return statistics.median(times)


if __name__ == "__main__":
    main()
