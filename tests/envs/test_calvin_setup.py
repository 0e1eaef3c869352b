"""`flowbench setup calvin`, with a small stand-in for the checkout."""

import shutil

import pytest
from click.testing import CliRunner

from flowbench.cli.setup import setup
from flowbench.envs.calvin import checkout
from flowbench.envs.calvin import setup as module
from flowbench.errors import BadValue, MissingExtra, RunFailed, UnknownName
from flowbench.registry import get_suite


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A small checkout that passes for the pinned one, and an empty cache."""
    root = tmp_path / "source" / "calvin_env-1"
    for path in (
        "calvin_env/envs/play_table_env.py",
        "conf/tasks/new_playtable_tasks.yaml",
        "data/plane/plane.urdf",
        "LICENSE",
    ):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(f"content of {path}\n")
    (root / ".git").mkdir()
    (root / ".git" / "HEAD").write_text("ref")
    digest = checkout.content_digest(root)
    monkeypatch.setattr(checkout, "CONTENT_SHA256", digest)
    monkeypatch.setattr(module, "CONTENT_SHA256", digest)
    monkeypatch.setenv("FLOWBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CALVIN_ENV_ROOT", raising=False)
    return root


@pytest.mark.parametrize("kind", ["folder", "gztar", "zip", "url"])
def test_a_checkout_is_taken_from_a_folder_an_archive_or_a_url(source, tmp_path, kind):
    place = str(source)
    if kind != "folder":
        archive = shutil.make_archive(str(tmp_path / "archive"), "zip" if kind == "zip" else "gztar", source.parent)
        place = f"file://{archive}" if kind == "url" else archive
    assert checkout.find_checkout() is None
    root = module.install(place)
    assert checkout.find_checkout() == root.resolve() and checkout.missing() is None
    assert checkout.versions() == {"calvin_env": checkout.COMMIT}
    assert not (root / ".git").exists()
    assert [path.name for path in root.parent.iterdir()] == [root.name], "nothing else is left in the cache"
    # Nothing is fetched twice.
    assert module.install("/nowhere") == root


def test_a_damaged_copy_is_replaced(source):
    root = module.install(str(source))
    (root / "LICENSE").write_text("damaged")
    assert checkout.content_digest(module.install(str(source))) == checkout.CONTENT_SHA256


def test_another_version_is_refused_with_the_commit_to_check_out(source):
    (source / "conf" / "more.yaml").write_text("changed")
    with pytest.raises(BadValue, match=f"holds another calvin_env than commit {checkout.COMMIT} .* git checkout"):
        module.install(str(source))
    assert checkout.find_checkout() is None


def test_byte_code_is_no_change(source):
    before = checkout.content_digest(source)
    (source / "calvin_env" / "__pycache__").mkdir()
    (source / "calvin_env" / "__pycache__" / "x.pyc").write_bytes(b"1")
    assert checkout.content_digest(source) == before


def test_what_cannot_be_used_is_named(source, tmp_path):
    with pytest.raises(BadValue, match="--from /nowhere does not exist; give a folder, a .tar.gz, a .zip, or a URL"):
        module.install("/nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadValue, match="holds no calvin_env: there is no calvin_env/envs/play_table_env.py"):
        module.install(str(tmp_path / "empty"))
    (tmp_path / "text.tar.gz").write_text("no archive")
    with pytest.raises(BadValue, match="is neither a folder nor a .tar.gz or .zip archive that can be read"):
        module.install(str(tmp_path / "text.tar.gz"))
    with pytest.raises(RunFailed, match="could not be downloaded .* flowbench setup calvin --from PATH"):
        module.install("file:///nowhere.tar.gz")


def test_the_command_shows_the_licence_and_asks_nothing(source):
    ran = CliRunner().invoke(setup, ["calvin", "--from", str(source)], catch_exceptions=False)
    assert ran.exit_code == 0
    assert ran.output.startswith("content of LICENSE") and "GPLv3" in ran.output and "flowbench doctor" in ran.output


def test_a_simulator_that_needs_no_setup_is_not_offered():
    with pytest.raises(UnknownName, match="There is no simulator to set up 'calvn'. Did you mean 'calvin'"):
        CliRunner().invoke(setup, ["calvn"], catch_exceptions=False)


def test_without_a_checkout_the_suite_says_what_to_do(source, monkeypatch):
    with pytest.raises(MissingExtra, match="which no package index has. Fetch it .30 MB.: flowbench setup calvin"):
        checkout.checkout()
    monkeypatch.setenv("CALVIN_ENV_ROOT", "/nowhere")
    sentence = "CALVIN_ENV_ROOT=/nowhere holds no checkout of calvin_env. Correct it, or unset it and run: flowbench setup calvin"
    assert get_suite("calvin-d-d").missing_setup() == sentence
