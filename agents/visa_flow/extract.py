"""Clips into one file, in FlowBench's own layout of demonstrations, so that everything that reads those reads them.

Besides what `flowbench.data.layout` names, `obs` of every demonstration has `<camera>_semantic` (T, H, W, 3) uint8, and where
actions are known `action_chunk` (T, C, A) and `action_valid` (T, C); row t is a look, not a step.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import h5py
import numpy as np
from tqdm import tqdm

from flowbench import __version__
from flowbench.agents.visa_flow.looks import Clip, ClipSpec, DemoClips, Parting, find_videos, video_clip
from flowbench.data.layout import DATA, FORMAT_VERSION, MASK, dataset_name
from flowbench.data.pool import Crash, map_demos
from flowbench.data.readers import open_demos
from flowbench.data.writer import write_file
from flowbench.errors import DataError, RunFailed, unknown_name
from flowbench.manifest import command_line

#: Name of the file in the output folder.
CLIPS = "clips.h5"
#: Attribute by which a file of clips is known.
MARK = "semantic_flow"
SEMANTIC = "semantic"
#: Clips that are handed back, for the picture.
KEPT = 4
_AFTER_FAILURE = "Nothing else was changed; make room, or choose another --out."


def extract(source: Path, out: Path, spec: ClipSpec, *, workers: int = 1, progress: bool = True) -> list[Clip]:
    """Write the clips of a file of demonstrations, a video, or a folder of videos, and return the first `KEPT` of them.

    The file appears when it is complete.

    Args:
        source: What to read.
        out: The file to make.
        spec: How.
        workers: Processes, one simulator each; 0 runs in this one. Videos are read in this one.
        progress: Whether to show a bar.

    Raises:
        FlowBenchError: If the source cannot be read, or what the spec names cannot be had.
        RunFailed: If a worker dies.
    """
    clips: list[Clip] = []
    videos = find_videos(source) if source.exists() else []
    count, make = _from_videos(videos, spec) if videos else _from_demonstrations(source, spec, workers)

    def fill(file: h5py.File, check: Callable[[], None]) -> None:
        data = file.create_group(DATA)
        by_task: dict[str, list[str]] = {}
        total, how, cameras = 0, set(), dict[str, None]()
        interval_s = 0.2 if sys.stderr.isatty() else 30.0
        for number, clip in tqdm(make(), "clips", count, disable=not progress, mininterval=interval_s, file=sys.stderr):
            total += _write(data.create_group(f"demo_{number}"), clip)
            by_task.setdefault(clip.attributes.get("task", ""), []).append(f"demo_{number}")
            how.add(clip.how)
            cameras |= dict.fromkeys(clip.frames)
            if len(clips) < KEPT:
                clips.append(clip)
            check()
        for task, names in by_task.items():
            file.create_dataset(f"{MASK}/{task or 'unknown'}", data=np.array(names, dtype="S"))
        data.attrs.update(
            total=total,
            num_demos=count,
            flowbench_format=FORMAT_VERSION,
            flowbench_version=__version__,
            cameras=json.dumps(list(cameras)),
            image_convention="upright",
            provenance=json.dumps({"command": command_line(), "made_from": source.name}),
        )
        data.attrs[MARK] = json.dumps({**asdict(spec), "how": sorted(how)})

    out.parent.mkdir(parents=True, exist_ok=True)
    write_file(out, fill, _AFTER_FAILURE)
    return clips


def _from_videos(videos: list[Path], spec: ClipSpec) -> tuple[int, Callable[[], Iterator[tuple[int, Clip]]]]:
    parting = Parting(spec)
    return len(videos), lambda: ((number, video_clip(path, spec, parting)) for number, path in enumerate(videos))


def _from_demonstrations(
    source: Path, spec: ClipSpec, workers: int
) -> tuple[int, Callable[[], Iterator[tuple[int, Clip]]]]:
    reader = open_demos(source)
    if not reader.demos:
        raise DataError(f"{source} holds no demonstrations.")
    if reader.image_view != "geometric":
        raise DataError(
            f"Pictures of {source} are mirrored, and agents that train on clips see upright ones. Collect it again."
        )
    tasks = {info.task for info in reader.demos}
    for name in spec.tasks:
        if name not in tasks:
            raise unknown_name("task", name, [task for task in tasks if task], f"The data in {source}")
    chosen = [number for number, info in enumerate(reader.demos) if not spec.tasks or info.task in spec.tasks]
    Parting(spec)  # What cannot be had is told before anything is done.

    def make() -> Iterator[tuple[int, Clip]]:
        try:
            for demo, answer in map_demos(partial(DemoClips, source, spec), reader, chosen, workers):
                if isinstance(answer, Crash):
                    raise RunFailed(f"The process that looked at {reader.demos[demo].name} {answer.how}.")
                yield demo, answer
        finally:
            reader.close()

    return len(chosen), make


def _write(group: h5py.Group, clip: Clip) -> int:
    """Write one clip, and return its number of looks."""
    looks = len(next(iter(clip.frames.values())))
    for camera, frames in clip.frames.items():
        for item, pictures in (("rgb", frames), (SEMANTIC, clip.semantic[camera])):
            group.create_dataset(
                f"obs/{dataset_name(f'{camera}/{item}')}",
                data=pictures,
                chunks=(1, *pictures.shape[1:]),
                compression="gzip",
                compression_opts=1,
            )
    for name, rows in clip.numbers.items():
        group[name] = rows
    group.attrs.update(num_samples=looks, segmentation_names="{}", **clip.attributes)
    return looks
