"""Checkpoint files: damage is found wherever it is, a death leaves a whole file, the earlier one is
kept.
"""

import os
import random
import zipfile
from pathlib import Path

import pytest
import torch

from reglab.core.errors import UserError
from reglab.training import checkpoint_files
from reglab.training.checkpoint_files import Damaged

STATE = {"weights": {"a": torch.arange(5.0), "b": torch.eye(3)}, "epoch": 3, "text": "é", "none": None}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "folder" / "last.ckpt"
    checkpoint_files.write(STATE, path)
    return path


def test_what_is_written_is_read_back_by_us_and_by_torch(path: Path) -> None:
    for content in (checkpoint_files.read(path), torch.load(path, weights_only=True)):
        assert torch.equal(content["weights"]["b"], torch.eye(3))
        assert (content["epoch"], content["text"], content["none"]) == (3, "é", None)
    assert zipfile.ZipFile(path).testzip() is None  # any zip reader takes the comment for what it is


def test_a_large_one_is_written_in_pieces(tmp_path: Path) -> None:
    large = {"weights": torch.arange(1_000_000.0), "small": torch.ones(1)}
    checkpoint_files.write(large, tmp_path / "last.ckpt")
    assert torch.equal(checkpoint_files.read(tmp_path / "last.ckpt")["weights"], large["weights"])


def test_every_flipped_bit_and_every_cut_is_found(path: Path) -> None:
    whole = path.read_bytes()
    positions = random.Random(0).sample(range(len(whole)), 400)
    for index in [*positions, 0, len(whole) - 1, len(whole) - 70, len(whole) - 79, len(whole) - 80]:
        flipped = bytearray(whole)
        flipped[index] ^= 1 << (index % 8)
        for damaged in (bytes(flipped), whole[:index], whole + b"\0", whole[:index] + b"\0" * (len(whole) - index)):
            if damaged != whole:
                path.write_bytes(damaged)
                with pytest.raises(Damaged, match="checksum"):
                    checkpoint_files.read(path)


def test_the_one_before_is_kept_and_used_when_the_last_is_damaged(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint_files.write({**STATE, "epoch": 4}, path)
    assert next(checkpoint_files.whole(path)).path == path
    path.write_bytes(path.read_bytes()[:-3])
    (actual,) = checkpoint_files.whole(path)
    assert actual.path == path.with_name("last.previous.ckpt")
    assert actual.take()["epoch"] == 3
    assert "last.ckpt" in caplog.text
    assert not path.exists()  # the next one must not move it over the only one that is whole
    actual.path.write_bytes(b"")
    assert not list(checkpoint_files.whole(path))


def test_a_file_that_another_program_wrote_is_refused(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "other.ckpt")
    with pytest.raises(Damaged, match="not written by reglab"):
        checkpoint_files.read(tmp_path / "other.ckpt")
    with pytest.raises(UserError, match="no checkpoint"):
        checkpoint_files.read(tmp_path / "missing.ckpt")


class Reduced:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> object:
        return os.system, ("true",)


def test_code_in_a_checkpoint_is_refused_though_its_checksum_is_right(tmp_path: Path) -> None:
    checkpoint_files.write({"weights": Reduced()}, tmp_path / "last.ckpt")
    with pytest.raises(Damaged, match="cannot be read"):
        checkpoint_files.read(tmp_path / "last.ckpt")


@pytest.mark.parametrize("call", ["fsync", "replace", "rename"])
def test_dying_anywhere_leaves_a_whole_one(path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """Die before and after each call that makes something durable, as a kill would, and look at
    what is there.
    """
    real = {name: getattr(os, name) for name in ("fsync", "replace", "rename")}
    for number in range(1, 8):
        count = 0

        def dying(*arguments: object, _number: int = number) -> object:
            nonlocal count
            count += 1
            if count == _number:
                raise KeyboardInterrupt
            return real[call](*arguments)

        monkeypatch.setattr(os, call, dying)
        try:
            checkpoint_files.write({**STATE, "epoch": 3 + number}, path)
        except KeyboardInterrupt:
            pass
        finally:
            monkeypatch.undo()
        assert next(checkpoint_files.whole(path)).take()["epoch"] >= 3


def test_what_cannot_be_stored_leaves_the_old_one(path: Path) -> None:
    with pytest.raises(Exception, match="pickle"):
        checkpoint_files.write({"big": torch.zeros(10_000), "value": lambda: None}, path)
    assert checkpoint_files.read(path)["epoch"] == 3
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]
