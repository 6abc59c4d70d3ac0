"""Law: what a job leaves on the disk grows neither with its pack nor with its epochs, for every method."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fused_harness as fused
import laws_harness as harness
import pytest
import pytorch_lightning as pl
import torch

from callback.own_module import OwnModule, loaders, trainer
from callback.test_own_loss import cross_entropies
from reglab.callback.regularize import Regularize
from reglab.core.errors import Unfused
from reglab.tracking import RunSpec, open_runs
from reglab.training import checkpoint_files
from reglab.training.experiment import Experiment
from reglab.training.fused.best import Best
from reglab.training.fused.checkpoints import write_member
from reglab.training.fused.module import PackModule
from reglab.training.fused.pack import Pack
from reglab.training.fused.recorder import PackRecorder

SLACK = 400  # bytes: numbers that are written with more digits


def job(name: str, seed: int) -> Experiment:
    return fused.job(harness.members(name), seed=seed, model=fused.net(seed, dtype=torch.float32), precision="32-true")


def sizes(folder: Path) -> dict[str, int]:
    """Return the bytes of each file in a folder of checkpoints; of two names of a file, each."""
    return {path.name if path.suffix == ".ckpt" else "beside": path.stat().st_size for path in folder.iterdir()}


def tensor_bytes(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.nbytes
    each = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return sum(map(tensor_bytes, each))


def stored_bytes(path: Path) -> int:
    with zipfile.ZipFile(path) as archive:
        return sum(entry.file_size for entry in archive.infolist() if "/data/" in entry.filename)


def member_files(name: str, members: int, folder: Path, epoch: int) -> list[dict[str, int]]:
    """Return the files of some jobs of a pack that was at ``epoch``, without training it. The first one is best."""
    jobs = [job(name, number) for number in range(members)]
    module = PackModule(Pack(jobs))
    trackers = open_runs(harness.NOWHERE, [RunSpec(f"{n}", folder / str(n), {}, {}, {}) for n in range(members)])
    best = Best(module.pack, "val/loss")
    recorder = PackRecorder(module, best, trackers, None, lambda _: None)
    module.begin_measuring([j.data for j in jobs], jobs[0].measure, None)
    measured = {"val/loss": 0.5}
    best.offer(range(1, members), [measured] * (members - 1), epoch - 1)
    recorder.latest, recorder.epochs = dict.fromkeys(range(members), measured), dict.fromkeys(range(members), epoch)
    best.offer([0], [measured], epoch)
    for row in (0, members - 1):
        write_member(folder / str(row) / "checkpoints", module, row, recorder, best)
    for tracker in trackers:
        tracker.finish("KILLED")
    return [sizes(folder / str(row) / "checkpoints") for row in (0, members - 1)]


@pytest.mark.parametrize("name", harness.NAMES)
def test_a_member_takes_the_same_space_in_every_pack_after_every_epoch(name: str, tmp_path: Path) -> None:
    try:
        small = member_files(name, 2, tmp_path / "small", 5)
    except Unfused:  # trains alone: the law below is its
        return
    large = member_files(name, 16, tmp_path / "large", 50)
    for one, other in zip(small, large, strict=True):
        assert one.keys() == other.keys() == {"best.ckpt", "last.ckpt", "beside"}
        assert all(abs(one[file] - other[file]) <= SLACK for file in one)
    for row in (0, 15):
        for path in (tmp_path / "large" / str(row) / "checkpoints").glob("*.ckpt"):
            content = torch.load(path, weights_only=True)
            assert stored_bytes(path) <= tensor_bytes(content)
            assert content["callbacks"]["Recorder"]["previous"] == {} if path.name == "last.ckpt" else True
    first = tmp_path / "large" / "0" / "checkpoints"
    assert (first / "best.ckpt").samefile(first / "last.ckpt")  # its best epoch is its last


@pytest.mark.parametrize("name", harness.NAMES)
def test_a_run_takes_the_same_space_after_every_epoch(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[str, int]] = []
    write = checkpoint_files.write

    def noted(content: Mapping[str, Any], path: Path) -> None:
        write(content, path)
        written.append((path.name, path.stat().st_size))
        assert stored_bytes(path) <= tensor_bytes(content)

    monkeypatch.setattr(checkpoint_files, "write", noted)
    made = harness.experiment(harness.members(name), epochs=12, batch_size=44, checkpoint_seconds=0)
    harness.trained(made, tmp_path)
    for file in ("last.ckpt", "best.ckpt"):
        found = [size for path, size in written if path == file]
        assert found
        assert max(found[:-1] or found) - found[0] <= SLACK
    assert len(list((tmp_path / "checkpoints").glob("unchanged-*.pt"))) == 1


@pytest.mark.parametrize("name", harness.NAMES)
@pytest.mark.filterwarnings("ignore")
def test_a_callback_takes_the_same_space_after_every_epoch(name: str, tmp_path: Path) -> None:
    found = []

    class Saved(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            trainer.save_checkpoint(tmp_path / "user.ckpt")
            assert stored_bytes(tmp_path / "user.ckpt") <= tensor_bytes(torch.load(tmp_path / "user.ckpt"))
            found.append((tmp_path / "user.ckpt").stat().st_size)

    callback = Regularize(harness.members(name), "classification", loss=cross_entropies if name == "sam" else None)
    trainer([callback, Saved()], epochs=9).fit(OwnModule(), *loaders())
    assert len(found) > 2
    assert max(found) - found[1] <= SLACK


def test_checkpoints_keep_one_tensor_under_two_names_one(tmp_path: Path) -> None:
    """A view brings its own part of a storage; what is tied stays tied, and what needs no copy is not copied."""
    stacked = torch.arange(6000.0).reshape(6, 1000)
    row, whole = stacked[2], torch.ones(3)
    content = {"a": row, "b": [row, {"c": stacked[2]}], "other": stacked[3, :10], "whole": whole, "epoch": 3}
    checkpoint_files.write(content, tmp_path / "a.ckpt")
    assert stored_bytes(tmp_path / "a.ckpt") == 4 * (1000 + 10 + 3)
    found = checkpoint_files.read(tmp_path / "a.ckpt")
    assert torch.equal(found["b"][1]["c"], row)
    assert found["a"].data_ptr() == found["b"][0].data_ptr()
    assert content["a"] is row
