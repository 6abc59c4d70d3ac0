import os
from pathlib import Path

import pytest

from reglab.core.errors import UserError
from reglab.tracking.artifacts import link_or_copy, local_home, storable


def test_a_pipe_is_no_artifact(tmp_path, caplog):
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder/pipe"):
        os.mkfifo(tmp_path / name)
        assert storable(tmp_path, name.partition("/")[0], "", "id") is None
    assert caplog.text.count("no plain file") == 2


@pytest.mark.parametrize(
    "uri, run_id, home",
    [
        ("file:///data/0/abc/artifacts", "abc", "/data/0/abc/artifacts"),
        ("s3://bucket/abc/artifacts", "abc", None),
        ("mlflow-artifacts:/0/abc/artifacts", "abc", None),
        ("file:///home/me", "abc", "refused"),
        ("file:///home/me/artifacts", "abc", "refused"),
        ("file:///home/abc/artifacts/../../me", "abc", "refused"),
        ("file:///home/../artifacts", "..", "refused"),
        ("/home/other/artifacts", "abc", "refused"),
    ],
)
def test_the_artifacts_of_a_run_are_in_its_own_folder(uri, run_id, home):
    if home == "refused":
        with pytest.raises(UserError, match="no folder of artifacts"):
            local_home(uri, run_id)
    else:
        assert local_home(uri, run_id) == (home and Path(home))


def test_a_checkpoint_takes_its_space_once_and_a_small_file_is_copied(tmp_path):
    (tmp_path / "last.ckpt").write_bytes(b"x" * (1 << 20))
    (tmp_path / "config.yaml").write_text("a: 1")
    for name in ("last.ckpt", "config.yaml"):
        link_or_copy(tmp_path / name, tmp_path / "store" / "checkpoints")
    stored = tmp_path / "store" / "checkpoints"
    assert (stored / "last.ckpt").stat().st_ino == (tmp_path / "last.ckpt").stat().st_ino
    assert (stored / "config.yaml").stat().st_ino != (tmp_path / "config.yaml").stat().st_ino
    assert (stored / "config.yaml").read_text() == "a: 1"


def test_storing_again_replaces_and_leaves_nothing_beside(tmp_path):
    file = tmp_path / "last.ckpt"
    for content in (b"a" * (1 << 20), b"b" * (1 << 20)):
        file.unlink(missing_ok=True)
        file.write_bytes(content)
        link_or_copy(file, tmp_path / "store")
        link_or_copy(file, tmp_path / "store")  # the same file, linked already
    assert (tmp_path / "store" / "last.ckpt").read_bytes() == b"b" * (1 << 20)
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["last.ckpt"]


def test_a_file_system_without_links_gets_a_copy(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no links here")

    monkeypatch.setattr("reglab.tracking.artifacts.os.link", refuse)
    (tmp_path / "last.ckpt").write_bytes(b"x" * (1 << 20))
    link_or_copy(tmp_path / "last.ckpt", tmp_path / "store")
    assert (tmp_path / "store" / "last.ckpt").read_bytes() == b"x" * (1 << 20)


def test_a_folder_is_stored_file_by_file(tmp_path):
    (tmp_path / "weights" / "deep").mkdir(parents=True)
    (tmp_path / "weights" / "a.npy").write_text("a")
    (tmp_path / "weights" / "deep" / "b.npy").write_text("b")
    link_or_copy(tmp_path / "weights", tmp_path / "store" / "weights")
    assert (tmp_path / "store/weights/a.npy").read_text() == "a"
    assert (tmp_path / "store/weights/deep/b.npy").read_text() == "b"
