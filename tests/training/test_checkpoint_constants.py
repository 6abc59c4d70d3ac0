"""What never changes lies once beside the checkpoints, is shared by runs, and is missed where it is
gone.
"""

from pathlib import Path

import pytest
import torch

from reglab.core.errors import UserError
from reglab.training import checkpoint_constants, checkpoint_files
from reglab.training.checkpoint_constants import Unchanged
from reglab.training.checkpoint_files import Damaged


def content(epoch: int, value: float = 1.0) -> dict[str, object]:
    initial = Unchanged({"weight": torch.full((3, 4), value), "bias": torch.zeros(0)})
    return {"callbacks": {"Recorder": {"initial": initial, "epoch": epoch}}, "state_dict": {"weight": torch.ones(2)}}


def kept(folder: Path) -> list[Path]:
    return sorted(folder.glob(checkpoint_constants.PATTERN))


def test_it_is_written_once_and_read_back(tmp_path: Path) -> None:
    for epoch in range(3):
        checkpoint_files.write(content(epoch), tmp_path / "a" / "last.ckpt")
    (path,) = kept(tmp_path / "a")
    for name in ("last.ckpt", "last.previous.ckpt"):
        actual = checkpoint_files.read(tmp_path / "a" / name)["callbacks"]["Recorder"]
        assert torch.equal(checkpoint_constants.tensors(actual["initial"])["weight"], torch.ones(3, 4))
        assert actual["epoch"] in (1, 2)
    assert "weight" not in torch.load(tmp_path / "a" / "last.ckpt")["callbacks"]["Recorder"]["initial"]
    checkpoint_files.write(content(0), tmp_path / "b" / "last.ckpt")
    checkpoint_files.write(content(0, 2.0), tmp_path / "c" / "last.ckpt")
    assert path.samefile(kept(tmp_path / "b")[0])  # another run with equal tensors
    assert kept(tmp_path / "c")[0].name != path.name


def test_a_damaged_one_damages_its_checkpoints_until_it_is_written_again(tmp_path: Path) -> None:
    checkpoint_files.write(content(0), tmp_path / "last.ckpt")
    (path,) = kept(tmp_path)
    path.write_bytes(path.read_bytes()[:-90])
    with pytest.raises(Damaged, match=path.name):
        checkpoint_files.read(tmp_path / "last.ckpt")
    checkpoint_files._unchanged.clear()  # as in the process that goes on
    checkpoint_files.write(content(1), tmp_path / "last.ckpt")
    checkpoint_files.read(tmp_path / "last.ckpt")


def test_a_missing_one_is_missed_by_who_needs_it_alone(tmp_path: Path) -> None:
    checkpoint_files.write(content(0), tmp_path / "last.ckpt")
    kept(tmp_path)[0].unlink()
    actual = checkpoint_files.read(tmp_path / "last.ckpt")
    assert torch.equal(actual["state_dict"]["weight"], torch.ones(2))
    with pytest.raises(UserError, match="missing beside the checkpoint"):
        checkpoint_constants.tensors(actual["callbacks"]["Recorder"]["initial"])


def test_a_name_that_leads_out_of_the_folder_is_none(tmp_path: Path) -> None:
    checkpoint_files.write({"weight": torch.ones(1)}, tmp_path / "secret.pt")
    checkpoint_files.write({"initial": {"beside": "../secret.pt"}}, tmp_path / "run" / "last.ckpt")
    assert checkpoint_files.read(tmp_path / "run" / "last.ckpt") == {"initial": {"beside": "../secret.pt"}}
