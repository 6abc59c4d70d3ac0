"""Checkpoints of a pack: one file to go on from, and, when a job ends, those that it would have alone."""

import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from reglab.training.checkpoints import write_atomically
from reglab.training.fused.best import Best
from reglab.training.fused.module import Fused
from reglab.training.fused.pack import Pack
from reglab.training.fused.stack import member_state, optimizer_state


class PackCheckpoints(pl.Callback):
    """Writes the whole pack to ``path`` after an epoch, at most every ``seconds``, and removes it when all is done.

    It holds what was chosen by measuring, too: going on with other choices would round differently.
    """

    def __init__(self, path: Path, seconds: float) -> None:
        self.path = path
        self.seconds = seconds
        self._written = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if time.monotonic() - self._written >= self.seconds:
            trainer.save_checkpoint(self.path)
            self._written = time.monotonic()

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.path.unlink(missing_ok=True)


def write_member(folder: Path, module: Fused, row: int, best: Best, epoch: int) -> list[Path]:
    """Write ``best.ckpt`` and ``last.ckpt`` of the job in ``row`` of the stack, and return their paths.

    Both have the form of a solo run's: ``last.ckpt`` with the optimizer's state as ``torch.optim`` keeps it.
    """
    pack, place = module.pack, module.pack.places[row]
    written = []
    if best.epochs[place]:
        written.append(folder / "best.ckpt")
        write_atomically(best_content(pack, place, best), written[0])
    last = {
        "state_dict": member_state(pack.stack, row, pack.base),
        "epoch": epoch,
        "global_step": pack.done(),
        "optimizer_states": [{"state": optimizer_state(pack.stack, row)}],
        **_common(pack, place),
    }
    write_atomically(last, folder / "last.ckpt")
    return [*written, folder / "last.ckpt"]


def best_content(pack: Pack, place: int, best: Best) -> dict[str, Any]:
    """Return what ``best.ckpt`` of a job holds."""
    return {"state_dict": best.state(place, pack.base), "epoch": best.epochs[place], **_common(pack, place)}


def _common(pack: Pack, place: int) -> dict[str, Any]:
    return {
        "pytorch-lightning_version": version("pytorch-lightning"),
        "hyper_parameters": dict(pack.experiments[place].description),
    }
