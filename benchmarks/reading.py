"""How long a random training window takes against decoding the episode it lies in, per format.

Writes small recordings of its own; the pictures are smooth with grain, so that they compress about as well as rendered ones.

    python benchmarks/reading.py [samples]
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

from flowbench.data.dataset import DemoDataset, Window

EPISODES, STEPS, SIZE = 3, 200, 128
WINDOW = Window(horizon=16, history=2)


def pictures(rng: np.random.Generator) -> np.ndarray:
    """Return uint8 (T, H, W, 3) images of a slowly moving scene."""
    rows, columns = np.mgrid[:SIZE, :SIZE] / SIZE
    phases = np.arange(STEPS)[:, None, None, None] / 40 + np.arange(3)
    waves = 128 + 90 * np.sin(6 * rows[..., None] + 4 * columns[..., None] + phases)
    return (waves + rng.normal(0, 2, waves.shape)).clip(0, 255).astype(np.uint8)


def write_ours(folder: Path, episodes: list[np.ndarray]) -> Path:
    path = folder / "ours.h5"
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs.update(flowbench_format=1, cameras='["front"]', num_demos=len(episodes))
        for number, images in enumerate(episodes):
            demo = data.create_group(f"demo_{number}")
            demo.attrs.update(num_samples=STEPS, suite="toy", task="push", instruction="push it", success=True)
            demo["actions"] = np.zeros((STEPS, 7))
            demo.create_dataset("obs/front_rgb", data=images, chunks=(1, *images.shape[1:]), compression="gzip")
    return path


def write_libero(folder: Path, episodes: list[np.ndarray]) -> Path:
    path = folder / "stack_the_cubes_demo.hdf5"
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs.update(problem_info=json.dumps({}), bddl_file_name="stack_the_cubes.bddl")
        for number, images in enumerate(episodes):
            data[f"demo_{number}/actions"] = np.zeros((STEPS, 7))
            data[f"demo_{number}/obs/agentview_rgb"] = images
    return path


def write_calvin(folder: Path, episodes: list[np.ndarray]) -> Path:
    path = folder / "calvin"
    path.mkdir()
    for step, image in enumerate(np.concatenate(episodes)):
        actions = np.zeros(7)
        np.savez_compressed(path / f"episode_{step:07d}.npz", rgb_static=image, rel_actions=actions)
    firsts = np.arange(EPISODES) * STEPS
    np.save(path / "ep_start_end_ids.npy", np.stack([firsts, firsts + STEPS - 1], axis=1))
    return path


def write_avdc(folder: Path, episodes: list[np.ndarray]) -> Path:
    from PIL import Image

    path = folder / "avdc"
    for number, images in enumerate(episodes):
        sequence = path / "door-open" / "corner" / f"{number:03d}"
        sequence.mkdir(parents=True)
        for step, image in enumerate(images):
            Image.fromarray(image).save(sequence / f"{step:02d}.png")
    return path


def measure(path: Path, samples: int) -> tuple[float, float, int]:
    """Return (seconds per window, seconds per whole episode, steps of an episode), medians taken in turns."""
    dataset = DemoDataset(path, window=WINDOW)
    reader, rng = dataset.readers[0], np.random.default_rng(0)
    windows, wholes = [], []
    for count in range(samples):
        start = time.perf_counter()
        dataset[int(rng.integers(len(dataset)))]
        windows.append(time.perf_counter() - start)
        if count % 20 == 0:
            start = time.perf_counter()
            for key in dataset.keys:
                reader.read(int(rng.integers(EPISODES)), key, slice(None))
            wholes.append(time.perf_counter() - start)
    return float(np.median(windows)), float(np.median(wholes)), reader.demos[0].steps


def main() -> None:
    samples = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    rng = np.random.default_rng(0)
    episodes = [pictures(rng) for _ in range(EPISODES)]
    with tempfile.TemporaryDirectory() as folder:
        for write in (write_ours, write_libero, write_calvin, write_avdc):
            path = write(Path(folder), episodes)
            window, whole, steps = measure(path, samples)
            dataset = DemoDataset(path)
            print(
                f"| {dataset.readers[0].format}, {SIZE}x{SIZE}, 2 images and 16 actions of {steps} steps | "
                f"{window * 1e3:.2f} ms against {whole * 1e3:.1f} ms | {whole / window:.0f}x | "
                "`python benchmarks/reading.py` |"
            )


if __name__ == "__main__":
    main()
