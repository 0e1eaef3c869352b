"""Which videos the page shows, and what stands where one cannot be shown."""

import base64
from dataclasses import replace

import pytest

from flowbench.recording import video_path
from flowbench.report.gallery import collect_gallery, group_errors
from flowbench.report.media import check_mp4
from flowbench.report.runs import ReportRun
from flowbench.store import EPISODES_NAME, ResultStore, encode_line


def late(episode):
    return "success" if episode.scenario.seed < 3 else "failure"


@pytest.fixture
def recorded(write_run, record):
    """Store a run of twenty episodes, eight of them failures, all with a video."""
    folder = write_run("r1", late)
    record(folder, [result.id for result in ResultStore.read(folder).results])
    return folder


def gallery(folder, choice="failures", megabytes=20.0, page_folder=None):
    return collect_gallery([ReportRun.read(folder)], choice, megabytes, page_folder or folder.parent)


def test_the_videos_of_all_failures_are_embedded_byte_for_byte(recorded):
    shown = gallery(recorded)
    assert len(shown.clips) == shown.failed_total == 8 and shown.not_shown == 0
    for clip in shown.clips:
        assert clip.episode.status == "failure"
        assert base64.b64decode(clip.video.base64) == video_path(recorded, clip.episode.id).read_bytes()


@pytest.mark.parametrize("choice, count", [("all", 20), ("failures", 8), ("none", 0)])
def test_the_choice_of_videos(recorded, choice, count):
    assert len(gallery(recorded, choice).clips) == count


def test_every_task_and_camera_comes_before_the_second_video_of_one(recorded):
    first = gallery(recorded).clips[:4]
    assert {(clip.episode.task, clip.episode.camera) for clip in first} == {
        (task, camera) for task in ("reach", "push") for camera in ("front", "side")
    }


def test_what_does_not_fit_is_linked_from_where_the_page_lies(recorded, video_file, tmp_path):
    room_for_two = 2.5 * video_file.stat().st_size / 1e6
    page_folder = tmp_path / "pages"
    page_folder.mkdir()
    shown = gallery(recorded, megabytes=room_for_two, page_folder=page_folder)
    assert [clip.video.base64 is not None for clip in shown.clips] == [True] * 2 + [False] * 6
    assert shown.linked == 6
    from urllib.parse import unquote

    assert (page_folder / unquote(shown.clips[-1].video.link)).samefile(
        video_path(recorded, shown.clips[-1].episode.id)
    )


def test_a_link_cannot_be_read_as_another_scheme(write_run, record, tmp_path):
    folder = write_run("javascript:alert(1)", late)
    record(folder, [result.id for result in ResultStore.read(folder).results])
    assert gallery(folder, megabytes=0).clips[0].video.link.startswith("./javascript%3Aalert%281%29/videos/")


def test_a_failure_without_a_video_is_listed(write_run, record):
    folder = write_run("r1", late)
    failed = [result.id for result in ResultStore.read(folder).results if result.status == "failure"]
    record(folder, failed[:3])
    shown = gallery(folder)
    assert len(shown.clips) == 3 and shown.without_video == 5
    assert sorted(episode.id for episode in shown.failed) == sorted(failed[3:])


def test_an_unreadable_video_is_one_sentence_and_the_others_are_shown(recorded, video_file):
    shown = [clip.episode.id for clip in gallery(recorded).clips]
    cut, foreign, folder_instead = (video_path(recorded, identifier) for identifier in shown[:3])
    cut.write_bytes(video_file.read_bytes()[:-100])
    foreign.write_bytes(b"GIF89a" + bytes(100))
    folder_instead.unlink()
    folder_instead.mkdir()
    problems = [clip.video.problem for clip in gallery(recorded).clips]
    assert problems[0] == f"{cut} is an MP4 video that was cut off or damaged."
    assert problems[1] == f"{foreign} is not an MP4 video."
    assert problems[2] == f"{folder_instead} cannot be read: Is a directory."
    assert problems[3:] == [None] * 5


def test_every_cut_of_a_video_is_noticed(video_file):
    data = video_file.read_bytes()
    assert check_mp4(data) is None
    for length in range(0, len(data), 97):
        assert check_mp4(data[:length]) is not None, length


def test_errors_that_differ_in_numbers_only_are_one_group(write_run):
    folder = write_run("r1", lambda episode: "error" if episode.task == "push" else "success")
    results = ResultStore.read(folder).results
    changed = [
        replace(result, error=f"no plan after {result.seed} steps" if result.seed < 4 else "no memory")
        if result.error
        else result
        for result in results
    ]
    (folder / EPISODES_NAME).write_bytes(b"".join(map(encode_line, changed)))
    groups = group_errors([ReportRun.read(folder)])
    assert [(group.text, group.count) for group in groups] == [("no plan after 0 steps", 8), ("no memory", 2)]
    assert len(groups[0].ids) == 5 and groups[0].ids[0] == "toy/push@front/s000"
