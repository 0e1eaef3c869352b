"""A manifest says which source a run was made with."""

import subprocess

import pytest

from flowbench import manifest


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A checkout with one file of code and one of results, committed."""

    def git(*arguments):
        identity = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org")
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    for name in ("flowbench/manifest.py", "results/table.md"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("before")
    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message", "first")
    monkeypatch.setattr(manifest, "__file__", str(tmp_path / "flowbench" / "manifest.py"))
    return tmp_path


def test_changed_code_makes_a_tree_dirty_and_a_rewritten_table_does_not(tree):
    commit, dirty = manifest._source_commit()
    assert len(commit) == 40 and not dirty
    (tree / "results" / "table.md").write_text("after")
    assert manifest._source_commit() == (commit, False)
    (tree / "flowbench" / "manifest.py").write_text("after")
    assert manifest._source_commit() == (commit, True)
