import os
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


def test_a_strangers_checkout_runs_nothing(checkout, monkeypatch):
    """Programs in its config, its attributes and in variables, of the kinds that ``git status`` runs or fetches by."""
    trap = checkout / "trap"
    trap.write_text("#!/bin/sh\ntouch ran\ncat\n")
    trap.chmod(0o755)
    (checkout / ".gitattributes").write_text("file filter=theirs\n")
    (checkout / "other").write_text("1")
    git(checkout, "add", ".")
    git(checkout, "commit", "-qm", "one")
    (checkout / ".git" / "info" / "attributes").write_text('other filter="a b"\n')
    keys = (
        "core.fsmonitor",
        "filter.theirs.clean",
        "filter.theirs.process",
        "core.pager",
        "pager.status",
        "core.editor",
    )
    for key in (*keys, "core.sshCommand", "diff.external", "filter.a b.clean", "core.askPass"):
        git(checkout, "config", key, str(trap))
    (checkout / ".git" / "hooks" / "post-index-change").write_text(trap.read_text())
    (checkout / ".git" / "hooks" / "post-index-change").chmod(0o755)
    git(checkout, "config", "filter.theirs.required", "true")
    git(checkout, "config", "core.hooksPath", str(checkout / ".git" / "hooks"))
    for name in ("file", "other"):  # of another time, so that git compares the contents
        os.utime(checkout / name, (0, 0))
    for number, key in enumerate(keys):
        monkeypatch.setenv(f"GIT_CONFIG_KEY_{number}", key)
        monkeypatch.setenv(f"GIT_CONFIG_VALUE_{number}", str(trap))
    monkeypatch.setenv("GIT_CONFIG_COUNT", str(len(keys)))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert git_tags(checkout)["mlflow.source.git.dirty"] == "false"
    assert not (checkout / "ran").exists()


def test_a_filter_that_cannot_be_switched_off_gives_no_tags(checkout):
    git(checkout, "commit", "-qm", "one")
    with (checkout / ".git" / "config").open("a") as file:
        file.write('[filter "a=b"]\n\tclean = cat\n')
    assert git_tags(checkout) == {}


def test_a_folder_that_looks_like_a_repository_is_none(checkout, tmp_path_factory):
    git(checkout, "commit", "-qm", "one")
    bare = tmp_path_factory.mktemp("received")
    git(bare, "clone", "-q", "--bare", str(checkout), ".")
    git(bare, "config", "core.bare", "false")
    git(bare, "config", "core.worktree", str(checkout))
    git_tags.cache_clear()
    assert git_tags(bare) == {}
