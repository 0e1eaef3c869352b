"""Where looks come from: states that a simulator shows again, pictures that were recorded, or a plain video.

A look is what an agent sees when it decides; the steps in between are executed unseen. Only looks are rendered and stored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from flowbench.agents.visa_flow.drawing import PointTracker, semantic_flow
from flowbench.agents.visa_flow.parts import SAM_MODEL, SamSegmenter, motion_masks, moved_names, named_masks
from flowbench.agents.visa_flow.tracks import CoTracker, ExactTracker, FlowTracker, load_cotracker
from flowbench.data.collect_spec import CollectSpec
from flowbench.data.info import known_task
from flowbench.data.picture_rows import PictureRow
from flowbench.data.readers import open_demos
from flowbench.data.readers.flowbench_hdf5 import FlowBenchHdf5
from flowbench.data.rendering import observe_states, rendering_env
from flowbench.data.replay import scenario_of
from flowbench.data.states import StateRows
from flowbench.env import EnvConfig, TaskEnv
from flowbench.errors import BadValue, DataError, unknown_name
from flowbench.flow.estimators import make_estimator
from flowbench.flow.snapshot import Snapshot, take_snapshot, tells_bodies
from flowbench.registry import get_suite

MASKS = ("auto", "simulator", "motion", "sam")
#: Exact tracks, where the masks are the simulator's; else this estimator.
DEFAULT_ESTIMATOR = "dis"
PICTURES = (".png", ".jpg", ".jpeg")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm")
#: The camera of a plain video.
VIDEO_CAMERA = "video"
#: Looks of a row of pictures.
_DRAWN_LOOKS = 8


@dataclass(frozen=True)
class ClipSpec:
    """How clips are made of demonstrations and videos.

    Attributes:
        tasks: Which demonstrations; empty for all.
        cameras: Which; empty for all that the suite, or the recording, has.
        image_size: (width, height) in pixels of what is stored; None makes the shorter side 96.
        stride: Steps, or frames, from one look to the next.
        trace: Looks that a trace reaches back.
        chunk: Actions that are kept of every look.
        masks: One of `MASKS`; `auto` takes the simulator's where there is one, the recorded ids where there are some, else
            motion.
        tracks: `auto` (exact where masks are the simulator's), `exact`, `cotracker`, or the name of a flow estimator.
        checkpoint: Weights of the tracker or the flow estimator; "" for its default.
        mask_model: Weights of the segmenter.
        camera_as: Name under which a plain video's pictures are stored: the robot's camera that they stand for.
        instruction: Sentence of a plain video; "" takes the words of its name.
    """

    tasks: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()
    image_size: tuple[int, int] | None = None
    stride: int = 5
    trace: int = 3
    chunk: int = 10
    masks: str = "auto"
    tracks: str = "auto"
    checkpoint: str = ""
    mask_model: str = SAM_MODEL
    camera_as: str = VIDEO_CAMERA
    instruction: str = ""

    def __post_init__(self) -> None:
        for name in ("stride", "trace", "chunk"):
            if getattr(self, name) < 1:
                raise BadValue(f"{name} of semantic flow is {getattr(self, name)}; it is at least 1.")
        if self.masks not in MASKS:
            raise unknown_name("kind of masks", self.masks, MASKS)

    def size_for(self, width: int, height: int) -> tuple[int, int]:
        """Return the (width, height) in which pictures of another size are stored."""
        if self.image_size:
            return self.image_size
        scale = 96 / min(width, height)
        return round(width * scale), round(height * scale)


@dataclass(frozen=True)
class Clip:
    """One demonstration or video, as looks.

    Attributes:
        frames: By camera, uint8 (T, H, W, 3).
        semantic: By camera, uint8 (T, H, W, 3).
        numbers: Other arrays (T, ...): `actions`, `obs/proprio`, ...
        attributes: Text and numbers about it.
        how: How masks and tracks were had, e.g. `simulator, exact`.
    """

    frames: Mapping[str, np.ndarray]
    semantic: Mapping[str, np.ndarray]
    numbers: Mapping[str, np.ndarray]
    attributes: Mapping[str, Any]
    how: str

    def picture_rows(self) -> list[PictureRow]:
        """Return two rows of each camera, of a few looks: what was seen above what was drawn of it."""
        rows: list[PictureRow] = []
        for camera, frames in self.frames.items():
            chosen = np.unique(np.linspace(0, len(frames) - 1, _DRAWN_LOOKS).round().astype(int))
            rows.append((f"{self.attributes.get('instruction', 'no instruction')}, {camera}", frames[chosen]))
            rows.append((f"semantic flow ({self.how})", self.semantic[camera][chosen]))
        return rows


@dataclass
class _Seen:
    """What one camera shows at every look."""

    frames: list[np.ndarray] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)
    masks: list[Mapping[str, np.ndarray]] = field(default_factory=list)


class Parting:
    """Turns what a camera saw into semantic flow images; holds the estimator and the segmenter."""

    def __init__(self, spec: ClipSpec) -> None:
        """Build what the spec names.

        Raises:
            FlowBenchError: If an estimator or a segmenter cannot be had.
        """
        self.spec = spec
        self._segmenter = SamSegmenter(spec.mask_model) if spec.masks == "sam" else None
        self._predict = load_cotracker(spec.checkpoint) if spec.tracks == "cotracker" else None
        self._estimator: Any = None

    def draw(self, seen: _Seen) -> tuple[np.ndarray, str]:
        """Return uint8 (T, H, W, 3) and how it was made.

        Raises:
            BadValue: If exact tracks are asked for where there is no simulator.
        """
        spec = self.spec
        exact = bool(seen.snapshots) and spec.tracks in ("auto", "exact") and spec.masks in ("auto", "simulator")
        if spec.tracks == "exact" and not exact:
            raise BadValue("Exact tracks need the simulator's masks and states; leave --tracks and --masks at auto.")
        tracker: PointTracker
        if exact:
            tracker, tracks = ExactTracker(seen.snapshots), "exact"
        elif self._predict:
            tracker, tracks = CoTracker(seen.frames, self._predict), "cotracker"
        else:
            tracker, tracks = FlowTracker(seen.frames, self.estimator), self.estimator.name
        masks, how = seen.masks, "simulator"
        if not masks or spec.masks in ("motion", "sam"):
            if spec.masks == "simulator":
                raise DataError(
                    "There are no simulator's masks: the recording has neither states nor object ids. Use --masks motion."
                )
            moving = FlowTracker(seen.frames, self.estimator)
            masks, how = motion_masks(seen.frames, moving), "motion"
            if self._segmenter:
                masks, how = self._segmenter.masks(seen.frames, masks), "sam"
        drawn = semantic_flow(seen.frames, masks, tracker, spec.trace)
        return np.stack([look.image for look in drawn]), f"{how}, {tracks}"

    @property
    def estimator(self) -> Any:
        """The flow estimator, built when it is first needed."""
        if self._estimator is None:
            if self.spec.tracks in ("auto", "exact", "cotracker"):
                self._estimator = make_estimator(DEFAULT_ESTIMATOR)
            else:
                self._estimator = make_estimator(self.spec.tracks, checkpoint=self.spec.checkpoint or None)
        return self._estimator


class DemoClips:
    """Makes clips of demonstrations, keeping the simulator of the last one's task; made once per process."""

    def __init__(self, path: Path, spec: ClipSpec) -> None:
        self._reader = open_demos(path)
        self._spec = spec
        self._parting = Parting(spec)
        self._env: TaskEnv | None = None

    def __call__(self, demo: int) -> Clip:
        """Return the clip of one demonstration.

        Raises:
            DataError: If it has neither pictures nor states.
        """
        info = self._reader.demos[demo]
        steps = range(0, info.steps, self._spec.stride)
        seen = self._replayed(demo, steps) if self._can_replay(demo) else self._recorded(demo, steps)
        frames, semantic, how = {}, {}, ""
        for camera, own in seen.items():
            frames[camera] = np.stack(own.frames)
            semantic[camera], how = self._parting.draw(own)
        attributes = {
            name: value
            for name, value in (("suite", info.suite), ("task", info.task), ("instruction", info.instruction))
            if value
        }
        if info.success is not None:
            attributes["success"] = info.success
        attributes["source"] = info.name
        return Clip(frames, semantic, self._numbers(demo, steps), attributes, how)

    def close(self) -> None:
        """Free simulator and file."""
        if self._env is not None:
            self._env.close()
            self._env = None
        self._reader.close()

    def _can_replay(self, demo: int) -> bool:
        info = self._reader.demos[demo]
        if not isinstance(self._reader, FlowBenchHdf5) or "states" not in info.arrays or known_task(info) is None:
            return False
        return not get_suite(info.suite).missing_modules() and tells_bodies(self._env_of(demo).simulator)

    def _replayed(self, demo: int, steps: range) -> dict[str, _Seen]:
        """Return what cameras show of the stored states."""
        reader, info = self._reader, self._reader.demos[demo]
        env = self._env_of(demo)
        seen = {camera: _Seen() for camera in self._spec.cameras or env.suite.views}
        for _ in observe_states(env, StateRows.read(reader.group(demo)), scenario_of(info), steps):
            for camera, own in seen.items():
                snapshot = take_snapshot(env, camera, rgb=True)
                own.snapshots.append(snapshot)
                own.frames.append(snapshot.rgb)
        family = env.task.family
        for own in seen.values():
            names = set(own.snapshots[0].segmentation_names.values())
            targets = names & set(env.task.targets) or moved_names(own.snapshots[0], own.snapshots[-1], family)
            own.masks = [named_masks(s.segmentation, s.segmentation_names, family, targets) for s in own.snapshots]
        return seen

    def _recorded(self, demo: int, steps: range) -> dict[str, _Seen]:
        """Return the stored pictures, resized, with masks from stored object ids if there are some."""
        info = self._reader.demos[demo]
        cameras = [camera for camera in info.cameras if f"{camera}/rgb" in info.arrays]
        for name in self._spec.cameras:
            if name not in cameras:
                raise unknown_name("camera", name, cameras, f"Demonstration {info.name} of {self._reader.path}")
        cameras = list(self._spec.cameras or cameras)
        if not cameras:
            raise DataError(
                f"{info.name} of {self._reader.path} has no pictures, and no states that an installed simulator could show "
                "again. Collect it with --modalities rgb,segmentation."
            )
        seen = {}
        for camera in cameras:
            pictures = self._reader.read(demo, f"{camera}/rgb", slice(None, None, self._spec.stride))
            size = self._spec.size_for(pictures.shape[2], pictures.shape[1])
            own = _Seen(frames=[_resized(picture, size) for picture in pictures])
            key, task = f"{camera}/segmentation", known_task(info)
            if key in info.arrays and info.segmentation_names:
                ids = self._reader.read(demo, key, slice(None, None, self._spec.stride))
                family = task.family if task else ""
                names = info.segmentation_names, family, task.targets if task else ()
                own.masks = [named_masks(_resized_ids(each, size), *names) for each in ids]
            seen[camera] = own
        return seen

    def _numbers(self, demo: int, steps: range) -> dict[str, np.ndarray]:
        """Return the state of the robot at every look, and the actions from there on."""
        info = self._reader.demos[demo]
        numbers = {}
        if "proprio" in info.arrays:
            numbers["obs/proprio"] = self._reader.read(demo, "proprio", slice(None))[steps].astype(np.float32)
        if "actions" in info.arrays:
            # Where noise was added, the expert's answer to it is what is worth learning.
            key = "expert_actions" if "expert_actions" in info.arrays else "actions"
            actions = self._reader.read(demo, key, slice(None))
            wanted = np.array(steps)[:, None] + np.arange(self._spec.chunk)
            numbers["actions"] = actions[steps]
            numbers["obs/action_chunk"] = actions[np.minimum(wanted, info.steps - 1)].astype(np.float32)
            numbers["obs/action_valid"] = (wanted < info.steps).astype(np.uint8)
        return numbers

    def _env_of(self, demo: int) -> TaskEnv:
        info = self._reader.demos[demo]
        if self._env is None or (self._env.suite.name, self._env.task.name) != (info.suite, info.task):
            if self._env is not None:
                self._env.close()
            suite = get_suite(info.suite)
            collected = CollectSpec.from_json(self._reader.attributes["spec"])
            cameras = self._spec.cameras or suite.views
            size = self._spec.size_for(*suite.image_size)
            # One modality, so that cameras are set up; what is looked at are snapshots.
            config = EnvConfig(cameras, ("rgb",), size, profile=collected.profile)
            self._env = rendering_env(suite, suite.task(info.task), collected.rules, config)
        return self._env


def video_clip(path: Path, spec: ClipSpec, parting: Parting) -> Clip:
    """Return the clip of a video file or a folder of pictures.

    Raises:
        DataError: If it holds no pictures.
    """
    frames = [_resized(frame, spec.size_for(frame.shape[1], frame.shape[0])) for frame in read_video(path, spec.stride)]
    if len(frames) < 2:
        raise DataError(f"{path} has {len(frames)} frames at a stride of {spec.stride}; at least 2 are needed.")
    semantic, how = parting.draw(_Seen(frames=frames))
    instruction = spec.instruction or " ".join(re.findall(r"[a-z]+", path.stem.lower()))
    attributes = {"task": instruction, "instruction": instruction, "source": path.name}
    return Clip({spec.camera_as: np.stack(frames)}, {spec.camera_as: semantic}, {}, attributes, how)


def find_videos(path: Path) -> list[Path]:
    """Return the videos at a path: itself, or a folder's video files and folders of pictures; empty if there are none."""
    if path.is_dir():
        if _pictures(path):
            return [path]
        inside = sorted(path.iterdir())
        return [child for child in inside if child.suffix.lower() in VIDEOS or (child.is_dir() and _pictures(child))]
    return [path] if path.suffix.lower() in VIDEOS else []


def read_video(path: Path, stride: int) -> Iterator[np.ndarray]:
    """Yield every `stride`-th uint8 (H, W, 3) frame.

    Raises:
        DataError: If it cannot be read.
    """
    import cv2

    if path.is_dir():
        for picture in _pictures(path)[::stride]:
            frame = cv2.imread(str(picture), cv2.IMREAD_COLOR)
            if frame is None:
                raise DataError(f"{picture} cannot be read as a picture. Leave it out, or copy it again.")
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        return
    capture = cv2.VideoCapture(str(path))
    try:
        number, found = 0, capture.isOpened()
        while found:
            found, frame = capture.read()
            if found and number % stride == 0:
                yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            number += 1
    finally:
        capture.release()
    if number <= 1:
        raise DataError(
            f"{path} cannot be read as a video. Convert it to H.264 in an .mp4 file, or to a folder of pictures."
        )


def _pictures(folder: Path) -> list[Path]:
    found = [child for child in folder.iterdir() if child.suffix.lower() in PICTURES]
    # frame_2 before frame_10.
    return sorted(found, key=lambda child: [int(t) if t.isdigit() else t for t in re.split(r"(\d+)", child.name)])


def _resized(picture: np.ndarray, size: Sequence[int]) -> np.ndarray:
    import cv2

    shrinks = picture.shape[1] >= size[0]
    return cv2.resize(picture, tuple(size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _resized_ids(ids: np.ndarray, size: Sequence[int]) -> np.ndarray:
    import cv2

    return cv2.resize(ids.astype(np.int32), tuple(size), interpolation=cv2.INTER_NEAREST)
