"""Semantic flow: what is drawn follows what moved, is the same from every source, and can be had of any video."""

import json
import sys
import types

import h5py
import numpy as np
import pytest

torch = pytest.importorskip("torch")
cv2 = pytest.importorskip("cv2")

from click.testing import CliRunner  # noqa: E402

import flowbench  # noqa: E402
from flowbench.agents.visa_flow.data import clip_spec  # noqa: E402
from flowbench.agents.visa_flow.drawing import DIM, PART_COLOURS, draw, semantic_flow, spread_points  # noqa: E402
from flowbench.agents.visa_flow.extract import extract  # noqa: E402
from flowbench.agents.visa_flow.looks import ClipSpec, Parting, find_videos, read_video  # noqa: E402
from flowbench.agents.visa_flow.parts import SamSegmenter, moved_names, named_masks  # noqa: E402
from flowbench.agents.visa_flow.tracks import CoTracker, ExactTracker, FlowTracker, load_cotracker, sample_px  # noqa: E402
from flowbench.cli.data import data as data_command  # noqa: E402
from flowbench.data.readers import open_demos  # noqa: E402
from flowbench.errors import BadValue, DataError, FlowBenchError, UnknownName  # noqa: E402
from flowbench.flow.estimators import make_estimator  # noqa: E402
from flowbench.flow.exact import track_points  # noqa: E402
from flowbench.flow.snapshot import take_snapshot  # noqa: E402
from flowbench.registry import make_agent  # noqa: E402


@pytest.fixture(scope="module")
def snapshots():
    """The toy's hand on its way to the block, every fifth step."""
    env = flowbench.make("toy", "lift", cameras=("front",), modalities=("rgb",), image_size=(96, 72), privileged=True)
    observation, _ = env.reset(seed=0)
    agent = make_agent("scripted", {})
    if hasattr(agent, "attach"):
        agent.attach(env.unwrapped)
    agent.reset(env.unwrapped.task, env.unwrapped.cameras, 0)
    taken = [take_snapshot(env.unwrapped, "front", rgb=True)]
    rng = np.random.default_rng(0)
    for _ in range(3):
        action = rng.uniform(-1, 1, env.action_space.shape)
        for _ in range(5):
            env.step(action)
        taken.append(take_snapshot(env.unwrapped, "front", rgb=True))
    yield taken
    env.close()


def moving_square(frames=4, side=64):
    """A textured square that goes 3 pixels to the right per frame, over a textured ground."""
    rng = np.random.default_rng(0)
    ground = cv2.GaussianBlur(rng.integers(0, 255, (side, side, 3), np.uint8), (5, 5), 0)
    square = cv2.GaussianBlur(rng.integers(0, 255, (20, 20, 3), np.uint8), (3, 3), 0)
    pictures = []
    for number in range(frames):
        picture = ground.copy()
        picture[22:42, 10 + 3 * number : 30 + 3 * number] = square
        pictures.append(picture)
    return pictures


def looks_of(snapshots):
    frames = [snapshot.rgb for snapshot in snapshots]
    masks = [named_masks(s.segmentation, s.segmentation_names, "toy", ("block",)) for s in snapshots]
    return frames, masks


def test_a_trace_is_the_exact_track_of_points_inside_the_mask_newest_first(snapshots):
    frames, masks = looks_of(snapshots)
    last = semantic_flow(frames, masks, ExactTracker(snapshots), trace=2)[-1]
    trace = last.traces["manipulator"]
    points = spread_points(masks[-1]["manipulator"])
    assert trace.shape == (3, len(points), 2) and len(points) > 4
    np.testing.assert_allclose(trace, track_points(snapshots[-1:-4:-1], points).pixels)
    assert np.linalg.norm(trace[-1] - trace[0], axis=-1).max() > 2, "the hand moved"


def test_the_drawing_depends_on_brightness_masks_and_traces_only(snapshots):
    frames, masks = looks_of(snapshots)
    looks = semantic_flow(frames, masks, ExactTracker(snapshots), trace=2)
    image = looks[-1].image
    nothing = ~np.logical_or.reduce(list(masks[-1].values()))
    coloured = np.ptp(image.astype(int), axis=-1) > 25
    assert coloured[masks[-1]["manipulator"]].all()
    assert (coloured & nothing).any(), "a trace lies where the hand was, outside of where it is"
    grey = frames[-1].astype(np.float32) @ [0.299, 0.587, 0.114]
    still = nothing & ~coloured & (np.ptp(image.astype(int), axis=-1) == 0)
    assert still.mean() > 0.5
    np.testing.assert_allclose(image[still][:, 0], DIM * grey[still], atol=1)
    swapped = draw(frames[-1][..., ::-1], masks[-1], looks[-1].traces)
    assert np.abs(swapped.astype(int) - image).max() < 60, "another colour of the scene, nearly the same drawing"


def test_estimated_flow_carries_points_from_link_to_link():
    tracks = FlowTracker(moving_square(), make_estimator("dis")).follow(
        [3, 2, 1], np.array([[25.0, 30.0], [32.0, 35.0]])
    )
    np.testing.assert_allclose(tracks[2] - tracks[0], [[-6, 0], [-6, 0]], atol=1)
    np.testing.assert_allclose(tracks[1] - tracks[0], [[-3, 0], [-3, 0]], atol=1)


def test_points_that_leave_the_picture_are_lost_and_not_drawn():
    flow_px = np.full((10, 10, 2), 30.0, np.float32)
    tracker = FlowTracker([np.zeros((10, 10, 3), np.uint8)] * 3, lambda a, b: flow_px[None])
    tracks = tracker.follow([2, 1, 0], np.array([[4.0, 4.0]]))
    assert np.isfinite(tracks[1]).all() and np.isnan(tracks[2]).all()
    image = draw(np.full((10, 10, 3), 200, np.uint8), {}, {"object": tracks})
    assert tuple(image[9, 0]) == (60, 60, 60)


def test_flow_is_read_between_pixels():
    flow_px = np.zeros((2, 2, 2), np.float32)
    flow_px[:, 1] = (4.0, 2.0)
    np.testing.assert_allclose(sample_px(flow_px, np.array([[0.5, 0.0], [1.0, 1.0]])), [[2.0, 1.0], [4.0, 2.0]])
    assert np.isnan(sample_px(flow_px, np.array([[5.0, 0.0]]))).all()


def test_points_lie_inside_their_mask_and_depend_on_nothing_else():
    mask = np.zeros((30, 40), bool)
    mask[10:20, 5:35] = True
    points = spread_points(mask, 9)
    assert len(points) == 9
    assert all(mask[int(row), int(column)] for column, row in points)
    assert np.array_equal(points, spread_points(mask, 9))
    assert spread_points(np.zeros((4, 4), bool)).shape == (0, 2)


def test_what_moves_besides_the_robot_is_the_object_of_a_task_that_names_none(snapshots):
    first, last = snapshots[0], snapshots[-1]
    assert not moved_names(first, last, "toy"), "only the hand moved"
    assert moved_names(first, last, "another family"), "and without its name it would be the object"


def test_a_plain_video_needs_neither_a_simulator_nor_a_segmenter(tmp_path):
    folder = tmp_path / "pushing_a_square_2"
    folder.mkdir()
    for number, picture in enumerate(moving_square()):
        cv2.imwrite(str(folder / f"{number}.png"), picture)
    out = tmp_path / "clips.h5"
    (clip,) = extract(folder, out, ClipSpec(stride=1, trace=2, camera_as="front"), progress=False)
    assert clip.how == "motion, dis"
    square = np.zeros((96, 96), bool)
    square[33:63, 29:60] = True
    coloured = np.ptp(clip.semantic["front"][-1].astype(int), axis=-1) > 25
    assert coloured[square].mean() > 0.8 and coloured[~square].mean() < 0.2
    (info,) = open_demos(out).demos
    assert info.instruction == "pushing a square" and set(info.arrays) == {"front/rgb", "front/semantic"}
    assert clip_spec(out)["stride"] == 1 and clip_spec(tmp_path / "nothing") is None


def test_a_video_file_is_read_at_its_stride_and_a_folder_stands_for_its_videos(tmp_path):
    video = tmp_path / "push.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 64))
    for picture in moving_square(6):
        writer.write(picture)
    writer.release()
    frames = list(read_video(video, 2))
    assert len(frames) == 3 and frames[0].shape == (64, 64, 3)
    assert np.abs(frames[1].astype(int) - moving_square(6)[2][..., ::-1]).mean() < 12
    assert find_videos(tmp_path) == [video] and find_videos(video) == [video]
    (tmp_path / "torn.mp4").write_bytes(b"no video")
    with pytest.raises(DataError, match=r"torn.mp4 cannot be read as a video. Convert it to H.264"):
        list(read_video(tmp_path / "torn.mp4", 1))


def test_clips_hold_looks_the_state_at_them_and_what_was_done_until_the_next(toy_demos, tmp_path):
    out = tmp_path / "clips.h5"
    spec = ClipSpec(cameras=("front",), stride=3, chunk=4, image_size=(48, 36))
    clips = extract(toy_demos, out, spec, workers=0, progress=False)
    source, made = open_demos(toy_demos), open_demos(out)
    assert len(clips) == len(made.demos) == len(source.demos)
    assert {clip.how for clip in clips} == {"simulator, exact"}
    steps = source.demos[0].steps
    assert made.demos[0].steps == len(range(0, steps, 3))
    assert (made.demos[0].suite, made.demos[0].task) == (source.demos[0].suite, source.demos[0].task)
    actions = source.read(0, "actions", slice(None))
    chunk, valid = (made.read(0, name, slice(None)) for name in ("action_chunk", "action_valid"))
    np.testing.assert_allclose(chunk[1], actions[np.minimum([3, 4, 5, 6], steps - 1)], rtol=1e-6)
    assert np.array_equal(valid[-1], np.arange(4) + 3 * (len(valid) - 1) < steps)
    np.testing.assert_array_equal(made.read(0, "proprio", slice(None)), source.read(0, "proprio", slice(None))[::3])
    assert made.demos[0].arrays["front/semantic"].shape == (36, 48, 3)


def test_where_noise_was_added_the_expert_s_answer_is_learned(tmp_path):
    from flowbench.data.collect import CollectOptions, collect
    from flowbench.data.collect_spec import CollectSpec
    from flowbench.spec import AgentSpec

    path = tmp_path / "noisy.h5"
    spec = CollectSpec(
        suite="toy", protocol="default", agent=AgentSpec("scripted"), tasks=("lift",), cameras=("front",),
        seeds=tuple(range(10_000, 10_010)), modalities=(), demonstrations=1, max_attempts=10, action_noise=0.3,
    )  # fmt: skip
    collect(spec, path, CollectOptions(workers=0, progress=False))
    spec = ClipSpec(cameras=("front",), stride=1, chunk=1, image_size=(32, 24))
    extract(path, tmp_path / "clips.h5", spec, workers=0, progress=False)
    source, made = open_demos(path), open_demos(tmp_path / "clips.h5")
    chunk = made.read(0, "action_chunk", slice(None))[:, 0]
    np.testing.assert_allclose(chunk, source.read(0, "expert_actions", slice(None)), rtol=1e-6)
    assert not np.allclose(chunk, source.read(0, "actions", slice(None)))


def test_the_command_writes_clips_and_a_picture_and_says_how(toy_demos, tmp_path):
    arguments = [toy_demos, "--out", tmp_path / "o", "--cameras", "front", "--tasks", "lift", "--workers", 0]
    ran = CliRunner().invoke(data_command, ["visa", *map(str, arguments)])
    assert ran.exit_code == 0, ran.output
    assert "(simulator, exact)" in ran.output
    picture = cv2.imread(str(tmp_path / "o" / "sheet.png"))
    assert picture is not None and picture.std() > 10
    with h5py.File(tmp_path / "o" / "clips.h5") as file:
        assert json.loads(file["data"].attrs["semantic_flow"])["how"] == ["simulator, exact"]
        assert {group.attrs["task"] for group in file["data"].values()} == {"lift"}
    ran = CliRunner().invoke(data_command, ["vsa", str(toy_demos)])
    assert isinstance(ran.exception, UnknownName) and "visa" in str(ran.exception)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"masks": "sams"}, "kind of masks 'sams'.*sam"),
        ({"stride": 0}, "stride of semantic flow is 0; it is at least 1"),
        ({"tracks": "diss"}, "flow estimator 'diss'.*dis"),
        ({"tasks": ("lift it",)}, "task 'lift it'.*lift"),
        ({"tracks": "exact", "masks": "motion"}, "Exact tracks need the simulator's masks and states"),
    ],
)
def test_mistakes_are_told_in_a_sentence(changes, message, toy_demos, tmp_path):
    with pytest.raises((BadValue, UnknownName), match=message):
        spec = ClipSpec(**{"cameras": ("front",), "image_size": (32, 24)} | changes)
        extract(toy_demos, tmp_path / "clips.h5", spec, workers=0, progress=False)
    assert not (tmp_path / "clips.h5").exists()


def test_a_segmenter_without_weights_says_how_to_get_them(tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(DataError, match=r"hf download .*; or use --masks motion, which needs none"):
        SamSegmenter(str(tmp_path / "nowhere"))


def test_a_segmenter_is_asked_at_what_moves(tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    small = {"hidden_size": 16, "mlp_dim": 16}
    layers = {"num_hidden_layers": 1, "num_attention_heads": 2}
    picture = {"image_size": 64, "patch_size": 16}
    vision = {"output_channels": 16, "num_pos_feats": 8, "window_size": 2, "global_attn_indexes": [0]}
    config = transformers.SamConfig(
        vision_config=small | layers | picture | vision,
        prompt_encoder_config={"hidden_size": 16, "mask_input_channels": 4} | picture,
        mask_decoder_config=small | layers | {"iou_head_hidden_dim": 16},
    )
    transformers.SamModel(config).save_pretrained(tmp_path)
    square, quarter = {"height": 64, "width": 64}, {"height": 16, "width": 16}
    transformers.SamProcessor(
        transformers.SamImageProcessor(
            size={"longest_edge": 64}, pad_size=square, mask_size={"longest_edge": 16}, mask_pad_size=quarter
        )
    ).save_pretrained(tmp_path)
    segmenter = SamSegmenter(str(tmp_path))
    frames = moving_square(2)
    moving = np.zeros((64, 64), bool)
    moving[22:42, 10:30] = True
    masks = segmenter.masks(frames, [{"manipulator": moving}, {"manipulator": np.zeros_like(moving)}])
    assert masks[0]["manipulator"].shape == (64, 64) and masks[0]["manipulator"].dtype == bool
    assert not masks[1]["manipulator"].any(), "nothing moves, nothing is asked"


def test_cotracker_is_given_the_looks_newest_first_and_its_points_at_the_first(monkeypatch, tmp_path):
    with pytest.raises(BadValue, match=r"need its package .*; or use --tracks dis, which needs neither"):
        Parting(ClipSpec(tracks="cotracker"))
    calls = []

    class Predictor:
        def __init__(self, checkpoint):
            self.eval = lambda: self

        def __call__(self, video, queries):
            calls.append((video, queries))
            times = video.shape[1]
            return queries[:, None, :, 1:] - 3 * torch.arange(times)[None, :, None, None], None

    module = types.ModuleType("cotracker.predictor")
    module.CoTrackerPredictor = Predictor
    monkeypatch.setitem(sys.modules, "cotracker", types.ModuleType("cotracker"))
    monkeypatch.setitem(sys.modules, "cotracker.predictor", module)
    with pytest.raises(BadValue, match="need its weights, and no --checkpoint is no file"):
        Parting(ClipSpec(tracks="cotracker"))
    (tmp_path / "w.pth").touch()
    frames = moving_square()
    tracks = CoTracker(frames, load_cotracker(str(tmp_path / "w.pth"))).follow([3, 2, 1], np.array([[20.0, 30.0]]))
    np.testing.assert_allclose(tracks[:, 0], [[20, 30], [17, 27], [14, 24]])
    ((video, queries),) = calls
    assert queries.tolist() == [[[0.0, 20.0, 30.0]]]
    np.testing.assert_array_equal(video[0].permute(0, 2, 3, 1), np.stack(frames[3:0:-1]))


def test_nothing_to_see_is_an_error_of_one_sentence(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FlowBenchError, match="empty"):
        extract(empty, tmp_path / "clips.h5", ClipSpec(), progress=False)
    cv2.imwrite(str(empty / "1.png"), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(DataError, match="has 1 frames at a stride of 5; at least 2 are needed"):
        extract(empty, tmp_path / "clips.h5", ClipSpec(), progress=False)


def test_both_parts_have_colours_of_their_own():
    assert set(PART_COLOURS) == {"manipulator", "object"} and len(set(PART_COLOURS.values())) == 2
