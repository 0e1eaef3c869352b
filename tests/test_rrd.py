"""Recordings for Rerun: every step with image, depth, camera, action and success, as the episode had them."""

import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from flowbench.camera import CameraParams
from flowbench.cli.eval import eval_
from flowbench.errors import BadValue, MissingExtra, StoreError, UnknownName
from flowbench.evaluate import EvalOptions, evaluate
from flowbench.recording import Recorder, check_formats, video_path
from flowbench.registry import make
from flowbench.rrd import rrd_path, unmirrored, write_rrd
from flowbench.spec import AgentSpec, EvalSpec

SPEC = EvalSpec("toy", "default", AgentSpec("zero"), ("reach",), ("front+yaw5",), (3,), max_steps=5)
ID = "toy/reach@front+yaw5/s003"


@pytest.fixture(scope="module")
def rr():
    return pytest.importorskip("rerun", reason="needs the extra rerun: pip install 'flowbench[rerun]'")


@pytest.fixture
def read(rr):
    """Return a function from a file to {entity: {component: values, in the order of steps}}."""
    reader = pytest.importorskip("rerun.chunk", reason="needs a Rerun SDK that reads recordings").RrdReader

    def read_file(path):
        found = {}
        for chunk in reader(str(path)).stream():
            columns = chunk.to_record_batch().to_pydict()
            if "step" not in columns:
                continue
            for name, values in columns.items():
                if ":" in name:
                    rows = found.setdefault(chunk.entity_path, {}).setdefault(name, {})
                    rows.update((step, value[0]) for step, value in zip(columns["step"], values) if value)
        return {
            entity: {name: [rows[step] for step in sorted(rows)] for name, rows in components.items()}
            for entity, components in found.items()
        }

    return read_file


def test_a_recording_holds_what_the_episode_had(read, tmp_path):
    options = EvalOptions(workers=0, record="all", record_formats=("rrd",), progress=False)
    (result,) = evaluate(SPEC, tmp_path / "r1", options).results
    assert result.status == "failure"
    found = read(rrd_path(tmp_path / "r1", ID))
    assert not (tmp_path / "r1" / "videos").exists()
    assert len(found["/world/camera/rgb"]["EncodedImage:blob"]) == result.steps + 1 == 6
    assert found["/success"]["Scalars:scalars"] == [0.0] * 5
    assert len(found["/reward"]["Scalars:scalars"]) == 5
    assert {entity for entity in found if entity.startswith("/action/")} == {f"/action/{i}" for i in range(4)}
    env = make("toy", "reach", cameras=("front+yaw5",), modalities=("rgb", "depth"))
    observation, info = env.reset(seed=3)
    assert found["/instruction"]["TextDocument:text"] == [info["instruction"]]
    camera = env.cameras["front+yaw5"]
    # Rerun keeps matrices column by column.
    pose = np.array(found["/world/camera"]["Transform3D:mat3x3"][0]).reshape(3, 3).T
    np.testing.assert_allclose(pose, camera.camera_to_world[:3, :3], atol=1e-6)
    np.testing.assert_allclose(
        found["/world/camera"]["Transform3D:translation"][0], camera.camera_to_world[:3, 3], atol=1e-6
    )
    k = np.array(found["/world/camera"]["Pinhole:image_from_camera"][0]).reshape(3, 3).T
    np.testing.assert_allclose(k - camera.intrinsics, [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]], atol=1e-3)
    depth = np.array(found["/world/camera/depth"]["DepthImage:buffer"][0], np.uint8).view(np.uint16)
    expected = observation["front+yaw5/depth"]
    assert expected.max() > 0.1
    np.testing.assert_allclose(depth.reshape(expected.shape) / 1000, expected, atol=0.00051)


def test_recording_changes_no_outcome_and_writes_both_formats(rr, tmp_path):
    pytest.importorskip("imageio_ffmpeg", reason="needs the extra video")
    plain = evaluate(SPEC, tmp_path / "r1", EvalOptions(workers=0, progress=False))
    options = EvalOptions(workers=0, record="failures", record_formats=("mp4", "rrd"), progress=False)
    recorded = evaluate(SPEC, tmp_path / "r2", options)
    assert [result.outcome for result in plain.results] == [result.outcome for result in recorded.results]
    assert plain.manifest.spec == recorded.manifest.spec
    for path in (rrd_path(tmp_path / "r2", ID), video_path(tmp_path / "r2", ID)):
        assert path.stat().st_size > 1000
        assert [other for other in path.parent.iterdir() if other != path] == []


def test_failures_only_leaves_out_a_success(rr, tmp_path):
    spec = EvalSpec("toy", "default", AgentSpec("scripted"), ("reach",), ("front",), (0,))
    options = EvalOptions(workers=0, record="failures", record_formats=("rrd",), progress=False)
    (result,) = evaluate(spec, tmp_path / "r1", options).results
    assert result.status == "success"
    assert not (tmp_path / "r1" / "recordings").exists()


@pytest.mark.parametrize("signs", [(1, 1), (-1, 1), (1, -1), (-1, -1)])
def test_a_mirrored_image_is_turned_round_with_its_camera(signs):
    k = np.array([[signs[0] * 40.0, 0, 11.0], [0, signs[1] * 40.0, 6.0], [0, 0, 1]])
    camera = CameraParams(k, np.eye(4), 30, 20)
    point = np.array([0.1, 0.05, 1.0])
    column, row, _ = np.rint(k @ point).astype(int)
    depth, rgb = np.zeros((20, 30)), np.zeros((20, 30, 3))
    depth[row, column], rgb[row, column] = 1, 1
    turned_rgb, turned_depth, turned = unmirrored(rgb, depth, camera)
    column, row, _ = np.rint(turned.intrinsics @ point).astype(int)
    assert turned.intrinsics[0, 0] == turned.intrinsics[1, 1] == 40
    assert turned_depth[row, column] == 1 and turned_rgb[row, column].all()


def test_what_cannot_be_written_leaves_no_part(rr, tmp_path):
    (tmp_path / "file").write_text("in the way")
    recorder = Recorder(views=True)
    with pytest.raises(StoreError, match="could not be written: .*leave out --record-format rrd"):
        write_rrd(tmp_path / "file" / "x.rrd", recorder, ID)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_formats_are_checked_before_anything_runs(monkeypatch, tmp_path):
    with pytest.raises(UnknownName, match="There is no record format 'rdd'. Did you mean 'rrd'?"):
        check_formats(("rdd",))
    with pytest.raises(BadValue, match="--record-format is empty; give one or more of mp4, rrd"):
        check_formats(())
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(MissingExtra, match=r"--record-format rrd needs .*pip install 'flowbench\[rerun\]'"):
        check_formats(("rrd",))
    out = str(tmp_path / "r1")
    arguments = ["--agent", "zero", "--suite", "toy", "--record", "all", "--record-format", "rrd", "--out", out]
    assert isinstance(CliRunner().invoke(eval_, arguments).exception, MissingExtra)
    assert not Path(out).exists()
