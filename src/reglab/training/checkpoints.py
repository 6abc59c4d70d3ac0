"""Checkpoints: ``last.ckpt`` to go on from, ``best.ckpt`` to be judged by. Written whole or not at all."""

import math
import os
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from torch import Tensor

from reglab.direction import lower_is_better


def write_atomically(content: Mapping[str, Any], path: Path) -> None:
    """Write ``content`` beside ``path``, make it durable, put it in place: a kill leaves the old file or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


class AtomicCheckpoints(TorchCheckpointIO):
    """Lightning's own save is not atomic where the temporary folder is another device."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        write_atomically(checkpoint, Path(path))


class Checkpoints(pl.Callback):
    """Keeps ``best.ckpt`` (the lowest or highest ``monitor``) and ``last.ckpt`` in ``folder``.

    Both are written at the end, and at most every ``seconds`` in between: the best first, so that whoever goes on from
    ``last.ckpt`` finds the best of what it has seen.
    """

    def __init__(self, folder: Path, monitor: str, seconds: float = 10.0) -> None:
        self.folder = folder
        self.monitor = monitor
        self.seconds = seconds
        self.best_value: float | None = None
        self.best_epoch = 0
        self.best_weights: dict[str, Tensor] | None = None
        self._written = time.monotonic()
        self._best_is_written = True

    @property
    def last(self) -> Path:
        return self.folder / "last.ckpt"

    @property
    def best(self) -> Path:
        return self.folder / "best.ckpt"

    def offer(self, trainer: pl.Trainer, module: pl.LightningModule, metrics: Mapping[str, float], epoch: int) -> None:
        """Take note of a measured epoch: remember its weights if they are the best so far."""
        value = metrics[self.monitor]
        best = math.nan if self.best_value is None else self.best_value  # NaN: any number is better
        better = math.isnan(best) or (value < best if lower_is_better(self.monitor) else value > best)
        if better and trainer.is_global_zero:
            self.best_value, self.best_epoch = value, epoch
            self.best_weights = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
            self._best_is_written = False

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Saving waits for every rank, so rank 0's clock decides for all.
        if trainer.strategy.broadcast(time.monotonic() - self._written >= self.seconds):
            self.write(trainer, pl_module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.write(trainer, pl_module)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Keep the best epoch. The module itself may stand in the middle of a step: nothing to go on from."""
        self._write_best(trainer, pl_module)

    def write(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Write what is not written yet."""
        self._write_best(trainer, module)
        trainer.save_checkpoint(self.last)
        self._written = time.monotonic()

    def _write_best(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.is_global_zero and not self._best_is_written:
            assert self.best_weights is not None
            content = {
                "state_dict": self.best_weights,
                "epoch": self.best_epoch,
                "pytorch-lightning_version": version("pytorch-lightning"),
                "hyper_parameters": dict(module.hparams),
            }
            write_atomically(content, self.best)
            self._best_is_written = True

    def state_dict(self) -> dict[str, Any]:
        return {"best_value": self.best_value, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_value, self.best_epoch = state_dict["best_value"], state_dict["best_epoch"]
        if self.best_value is not None and self.best.exists():
            self.best_weights = torch.load(self.best, map_location="cpu", weights_only=True)["state_dict"]
