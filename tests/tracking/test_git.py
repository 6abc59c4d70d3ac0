import subprocess

import pytest

from reglab.tracking.git import git_tags


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "a")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "a@b.c")
    git(tmp_path, "init", "-q", "-b", "trunk")
    (tmp_path / "file").write_text("1")
    git(tmp_path, "add", "file")
    git_tags.cache_clear()
    return tmp_path


def git(folder, *words):
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_the_tags_name_commit_branch_and_uncommitted_changes(checkout):
    git(checkout, "commit", "-qm", "one")
    (checkout / "sub").mkdir()
    (checkout / "sub" / "untracked").write_text("")
    clean = git_tags(checkout / "sub")
    assert clean == {
        "mlflow.source.git.commit": git(checkout, "rev-parse", "HEAD"),
        "mlflow.source.git.branch": "trunk",
        "mlflow.source.git.dirty": "false",
    }
    (checkout / "file").write_text("2")
    assert git_tags(checkout)["mlflow.source.git.dirty"] == "true"


def test_no_commit_no_checkout_and_no_git_give_no_tags(checkout, tmp_path_factory, monkeypatch):
    assert git_tags(checkout) == {}
    assert git_tags(tmp_path_factory.mktemp("plain")) == {}
    monkeypatch.setenv("PATH", "")
    assert git_tags(tmp_path_factory.mktemp("other")) == {}
