"""Checkpoints: whole or not at all, seldom enough, and which epoch is the best."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from reglab.regularizers import Cocktail
from reglab.training import checkpoint_files, checkpoints
from reglab.training.checkpoints import Checkpoints, resumable


class Module(nn.Linear):
    """One weight, and what Lightning's modules have."""

    interrupted = None
    cocktail = Cocktail({}, 0, "regression")
    hparams: dict[str, Any] = {"config": {"seed": 0}}  # noqa: RUF012 - as Lightning's is read

    def __init__(self) -> None:
        super().__init__(1, 1, bias=False)

    def steps_done(self) -> int:
        return 0

    def snapshot(self) -> dict[str, torch.Tensor]:
        return {name: weight.detach().clone() for name, weight in self.state_dict().items()}

    def whole(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return state

    def local_state(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return state

    def at(self, value: float) -> "Module":
        with torch.no_grad():
            self.weight.fill_(value)
        return self


class Trainer:
    """What of a Trainer is asked for; it counts its saves."""

    is_global_zero = True

    def __init__(self) -> None:
        self.saved: list[Path] = []

    def save_checkpoint(self, path: Path) -> None:
        self.saved.append(path)

    @property
    def strategy(self) -> "Trainer":
        return self

    def broadcast(self, word: object) -> object:
        return word


def checkpoints_of(module: Any, folder: Path, monitor: str = "val/loss", seconds: float = 10) -> Checkpoints:
    return Checkpoints(module, folder, monitor, seconds)


def offered(values: list[float], monitor: str, folder: Path) -> tuple[Checkpoints, Any, Any]:
    trainer, module = Trainer(), Module()
    kept = checkpoints_of(module, folder, monitor)
    for epoch, value in enumerate(values, start=1):
        module.at(epoch)
        kept.offer([0], [{monitor: value, "val/other": -value}], epoch)
    return kept, trainer, module


@pytest.mark.parametrize(
    "monitor, values, best",
    [
        ("val/loss", [3.0, 1.0, 2.0], 2),
        ("val/loss", [3.0, 1.0, 1.0], 2),
        ("val/accuracy", [0.3, 0.2, 0.9, 0.5], 3),
        ("val/r2", [-5.0, -1.0, -2.0], 2),
        ("val/loss", [math.nan, 2.0, 3.0], 2),
        ("val/loss", [2.0, math.nan, 1.0], 3),
        ("val/loss", [math.inf, 4.0], 2),
    ],
)
def test_the_best_is_the_lowest_loss_or_the_highest_score(
    tmp_path: Path, monitor: str, values: list[float], best: int
) -> None:
    kept, trainer, module = offered(values, monitor, tmp_path)
    module.at(99)
    kept.write(trainer)
    content = torch.load(kept.best, weights_only=True)
    assert (content["epoch"], kept.best_epoch, kept.record.values) == (best, best, [values[best - 1]])
    assert content["state_dict"]["weight"].item() == best  # a copy: the module went on to 99
    assert content["hyper_parameters"] == {"config": {"seed": 0}}
    assert trainer.saved == [tmp_path / "last.ckpt"]


def test_files_are_written_at_most_every_so_many_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: clock[0])
    trainer: Any = Trainer()
    module: Any = Module()
    kept = checkpoints_of(module, tmp_path, seconds=10)
    actual = []
    for now in (101.0, 109.0, 110.0, 111.0, 119.0, 120.5):
        clock[0] = now
        kept.offer([0], [{"val/loss": -now}], 1)
        kept.on_train_epoch_end(trainer, module)
        actual.append((len(trainer.saved), kept.best.exists()))
    assert actual == [(0, False), (0, False), (1, True), (1, True), (1, True), (2, True)]
    trainer.current_epoch = 2  # the best one is the first
    kept.on_fit_end(trainer, module)
    assert len(trainer.saved) == 3


def test_the_best_is_not_written_again_without_a_better_one(tmp_path: Path) -> None:
    kept, trainer, _ = offered([2.0], "val/loss", tmp_path)
    kept.write(trainer)
    kept.best.unlink()
    kept.offer([0], [{"val/loss": 2.5}], 2)
    kept.write(trainer)
    assert not kept.best.exists()
    kept.offer([0], [{"val/loss": 1.5}], 3)
    kept.write(trainer)
    assert kept.best.exists()


def test_a_resumed_run_remembers_its_best(tmp_path: Path) -> None:
    kept, trainer, module = offered([3.0, 1.0], "val/loss", tmp_path)
    kept.write(trainer)
    checkpoint_files.write({"callbacks": {Checkpoints.__qualname__: kept.state_dict()}}, kept.last)
    found = resumable(tmp_path)
    assert found is not None
    again = checkpoints_of(module, tmp_path)
    again.on_load_checkpoint(trainer, module, found.take())
    again.load_state_dict(kept.state_dict())
    again.on_fit_start(trainer, module)
    module.at(7)
    again.offer([0], [{"val/loss": 2.0}], 3)
    assert (again.record.values, again.best_epoch) == ([1.0], 2)
    assert again.record.metrics == [{"val/loss": 1.0, "val/other": -1.0}]
    assert again.best_weights is not None
    assert again.best_weights["weight"].item() == 2
