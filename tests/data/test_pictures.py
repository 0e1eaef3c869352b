"""Colours mean what their scales say, and what stands on a sheet is what the file holds."""

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from flowbench.data.colours import colour_depth, colour_flow, colour_segmentation, depth_range_m, flow_wheel
from flowbench.data.panels import Look, Panels, choose_look
from flowbench.data.readers import open_demos
from flowbench.data.show import contact_sheet, write_picture
from flowbench.errors import BadValue, DataError, UnknownName


def flow(right, down):
    return np.full((2, 3, 2), [right, down], dtype=np.float32)


@pytest.mark.parametrize(
    "right, down, colour",
    [
        (5, 0, (255, 0, 0)),
        (-5, 0, (0, 197, 255)),
        (0, 5, (255, 233, 0)),
        (0, -5, (103, 0, 255)),
        (0, 0, (255, 255, 255)),
        (50, 0, (255, 0, 0)),
        (2.5, 0, (255, 127, 127)),
    ],
)
def test_hue_is_direction_and_white_is_still(right, down, colour):
    np.testing.assert_allclose(colour_flow(flow(right, down), full_px=5)[1, 2], colour, atol=2)


def test_unknown_flow_is_black_and_the_wheel_shows_every_direction():
    assert colour_flow(flow(np.nan, 0), full_px=5).max() == 0
    wheel = flow_wheel(41)
    np.testing.assert_array_equal(wheel[20, 20], [255, 255, 255])
    np.testing.assert_allclose(wheel[20, 40], [255, 0, 0], atol=10)
    np.testing.assert_array_equal(wheel[0, 0], [255, 255, 255])


def test_near_is_bright_far_is_dark_and_nothing_is_black():
    depth_m = np.array([[0.5, 1.0, 2.0, 9.0, 0.0]], dtype=np.float32)
    brightness = colour_depth(depth_m, 0.5, 2.0).astype(int).sum(axis=-1)[0]
    assert brightness[0] > brightness[1] > brightness[2] == brightness[3] > brightness[4] == 0


def test_the_room_behind_the_table_does_not_take_all_the_colours():
    depths_m = np.concatenate([np.linspace(0.5, 1.5, 95), np.full(5, 30.0), np.zeros(50)])
    near_m, far_m = depth_range_m(depths_m)
    assert 0.5 <= near_m < 0.52
    assert 1.3 < far_m < 1.6
    assert depth_range_m(np.zeros(4)) == (0.0, 1.0)


def test_an_object_has_the_same_colour_in_every_image():
    first = colour_segmentation(np.array([[0, 1, 2]]))
    second = colour_segmentation(np.array([[2, 2, 9]]))
    np.testing.assert_array_equal(first[0, 2], second[0, 0])
    assert len({tuple(colour) for colour in colour_segmentation(np.arange(12)[None])[0]}) == 12


@pytest.fixture
def reader(collected_toy):
    opened = open_demos(collected_toy)
    yield opened
    opened.close()


def test_a_sheet_holds_the_images_of_the_file(reader):
    look = Look(("front",), ("rgb", "segmentation"), (0, 6), flow_gap=4)
    panels = Panels(reader, 0, look)
    sheet = np.asarray(contact_sheet(panels)).astype(int)
    for step in look.steps:
        tile = Image.fromarray(reader.read(0, "front/rgb", slice(step, step + 1))[0])
        width, height = 280, 210
        expected = np.asarray(tile.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
        core = expected[100:110, 100:140]
        found = [
            np.abs(sheet[top : top + 10, left : left + 40] - core).max()
            for top in range(100, 260)
            for left in range(160, sheet.shape[1] - 140)
        ]
        assert min(found) == 0, f"step {step} is not on the sheet"


def test_every_kind_and_camera_has_a_row(reader):
    info = reader.demos[0]
    heights = {}
    for kinds in (("rgb",), ("rgb", "depth", "segmentation", "flow")):
        heights[kinds] = contact_sheet(Panels(reader, 0, Look(info.cameras, kinds, (0, 5, 9)))).height
    (one,), (four,) = (
        [value for key, value in heights.items() if len(key) == 1],
        [value for key, value in heights.items() if len(key) == 4],
    )
    # Three more rows of 280 x 210 for each of two cameras.
    assert four - one == 2 * 3 * (210 + 6)


def test_the_flow_of_the_last_step_leads_nowhere(reader):
    last = reader.demos[0].steps - 1
    panels = Panels(reader, 0, Look(("front",), ("flow",), (last - 1, last)))
    assert panels.image("front", "flow", last) is None
    assert panels.image("front", "flow", last - 1).shape == (48, 64, 3)


def test_the_largest_objects_are_named_first(reader):
    names = list(Panels(reader, 0, Look(("front",), ("segmentation",), (0, 9))).objects("front").values())
    assert set(names) == {"table", "gripper", "goal", "block"}
    assert names[:2] == ["table", "gripper"]


def test_a_video_has_a_frame_per_step_and_even_sides(reader, tmp_path):
    look = choose_look(reader, 0, kinds=("rgb", "depth", "flow"))
    write_picture(Panels(reader, 0, look), tmp_path / "demo.mp4", fps=10)
    frames, seconds = imageio_ffmpeg.count_frames_and_secs(tmp_path / "demo.mp4")
    assert frames == reader.demos[0].steps
    assert seconds == pytest.approx(frames / 10, abs=0.2)
    assert [path.name for path in tmp_path.iterdir()] == ["demo.mp4"]


def test_moments_are_spread_over_the_demonstration(reader):
    steps = choose_look(reader, 0, moments=6).steps
    assert (steps[0], steps[-1], len(steps)) == (0, reader.demos[0].steps - 1, 6)
    assert choose_look(reader, 0, steps=(7, 3, 7)).steps == (3, 7)


def test_what_is_not_there_is_left_out_or_named(reader, collect_toy):
    with pytest.raises(UnknownName, match="There is no kind 'dept'. Did you mean 'depth'"):
        choose_look(reader, 0, kinds=("dept",))
    with pytest.raises(BadValue, match="--steps names step 400; demo_0 has steps 0 to "):
        choose_look(reader, 0, steps=(2, 400))
    with pytest.raises(UnknownName, match="has no camera 'frnt'. Did you mean 'front'"):
        Panels(reader, 0, choose_look(reader, 0, cameras=("frnt",)))
    with open_demos(collect_toy(modalities=("rgb",), tasks=("push",))) as pictures:
        assert Panels(pictures, 0, choose_look(pictures, 0)).kinds("front") == ("rgb", "flow")
        with pytest.raises(DataError, match="camera front has nothing to show as depth; it has front/rgb"):
            Panels(pictures, 0, choose_look(pictures, 0, kinds=("depth",)))
    numbers = open_demos(collect_toy(modalities=(), tasks=("push",)))
    with pytest.raises(DataError, match="demo_0 has no images. Render them from its states: flowbench data render"):
        choose_look(numbers, 0)
    numbers.close()
