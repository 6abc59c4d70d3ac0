"""Lightning callback that writes ``last.ckpt`` (to resume from) and ``best.ckpt`` (best epoch).

Written whole or not at all.
"""

import logging
import math
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
from lightning_fabric.plugins import TorchCheckpointIO
from lightning_utilities.core.rank_zero import rank_zero_only
from torch import Tensor

from reglab.core import signals
from reglab.core.errors import Diverged
from reglab.core.metric_direction import lower_is_better
from reglab.training import checkpoint_files
from reglab.training.checkpoint_files import Checkpoint
from reglab.training.solo import Solo

_BEST = "best_state_dict"  # of what a run resumes from
_log = logging.getLogger(__name__)


class StoppedBySignal(Exception):  # noqa: N818 - what it says is what happened
    """Training was saved and ended because of the signal ``number``."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class AtomicCheckpoints(TorchCheckpointIO):
    """CheckpointIO that writes atomically, and loads what was verified, which Lightning's does not.

    Args:
        resume: What ``load_checkpoint`` returns, whose file is not read again.
    """

    def __init__(self, resume: Checkpoint | None = None) -> None:
        super().__init__()
        self._resume = resume

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        checkpoint_files.write(checkpoint, Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return self._resume.take() if self._resume else checkpoint_files.read(Path(path))


class Checkpoints(pl.Callback):
    """Keeps ``best.ckpt`` (the lowest or highest ``monitor``) and ``last.ckpt`` in ``folder``.

    Both are written at the end, and at most every ``seconds`` in between: the best first, so that a
    run resumed from ``last.ckpt`` finds its best epoch.
    """

    def __init__(self, folder: Path, monitor: str, seconds: float = 10.0) -> None:
        self.folder = folder
        self.monitor = monitor
        self.seconds = seconds
        self.best_value: float | None = None
        self.best_epoch = 0
        self.best_weights: dict[str, Tensor] | None = None
        self._loaded: dict[str, Tensor] | None = None  # of a resumed run, until training starts
        self._written = time.monotonic()
        self._best_is_written = True

    @property
    def last(self) -> Path:
        return self.folder / "last.ckpt"

    @property
    def best(self) -> Path:
        return self.folder / "best.ckpt"

    def offer(self, trainer: pl.Trainer, module: pl.LightningModule, metrics: Mapping[str, float], epoch: int) -> None:
        """Keep the weights of a measured epoch if they are the best so far."""
        value = metrics[self.monitor]
        best = math.nan if self.best_value is None else self.best_value  # NaN: any number is better
        better = math.isnan(best) or (value < best if lower_is_better(self.monitor) else value > best)
        if better:
            self.best_value, self.best_epoch = value, epoch
            self.best_weights = cast(Solo, module).snapshot()
            self._best_is_written = False

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take the weights of the best epoch, which ``resumable`` found beside the checkpoint."""
        self._loaded = checkpoint.pop(_BEST, None)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the best epoch of a resumed run, on every rank, and rank 0's folder."""
        self.folder = Path(trainer.strategy.broadcast(str(self.folder)))
        if self._loaded is not None:
            cast(Solo, pl_module).cocktail.complete(self._loaded)
            self.best_weights = cast(Solo, pl_module).local_state(self._loaded)
            self._loaded = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        signals.install_handlers()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Save and end after a signal; at the end of an epoch, once it is measured."""
        solo = cast(Solo, pl_module)
        if solo.interrupted and solo.inside_epoch:
            self._end(trainer, pl_module, solo.interrupted)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        number = cast(Solo, pl_module).interrupted
        if number and not trainer.should_stop and trainer.current_epoch + 1 != trainer.max_epochs:
            self._end(trainer, pl_module, number)
        # Saving waits for every rank, so rank 0's clock decides for all.
        if trainer.strategy.broadcast(time.monotonic() - self._written >= self.seconds):
            self.write(trainer, pl_module)

    def _end(self, trainer: pl.Trainer, module: pl.LightningModule, number: int) -> None:
        self.write(trainer, module)
        raise StoppedBySignal(number)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write what is left.

        Where the best epoch is the last, the two are one file with two names.
        """
        if self.best_epoch != trainer.current_epoch or cast(Solo, pl_module).inside_epoch or not self.best_epoch:
            self.write(trainer, pl_module)
            return
        trainer.save_checkpoint(self.best)
        if trainer.is_global_zero:
            checkpoint_files.link(self.best, self.last)
        self._best_is_written = True

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Keep the best epoch.

        The module may be in the middle of a step, which cannot be resumed from.
        """
        if cast(Solo, pl_module).sharded and not isinstance(exception, Diverged):
            return  # gathering it takes every rank, and not every rank may have come here
        try:
            self._write_best(trainer, pl_module)
        except OSError as error:  # perhaps the very exception: it must not be hidden by its own consequence
            _log.warning("the best epoch could not be kept in %s: %s", self.best, error)

    def write(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Write what is not written yet."""
        self._write_best(trainer, module)
        trainer.save_checkpoint(self.last)
        self._written = time.monotonic()

    def _write_best(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self._best_is_written:
            return
        assert self.best_weights is not None
        state = cast(Solo, module).whole(self.best_weights)
        if trainer.is_global_zero:
            content = {
                "state_dict": state,
                "epoch": self.best_epoch,
                "pytorch-lightning_version": version("pytorch-lightning"),
                "hyper_parameters": dict(module.hparams),
            }
            checkpoint_files.write(content, self.best)
        self._best_is_written = True

    def state_dict(self) -> dict[str, Any]:
        return {"best_value": self.best_value, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_value, self.best_epoch = state_dict["best_value"], state_dict["best_epoch"]


def resumable(folder: Path) -> Checkpoint | None:
    """Return the checkpoint in ``folder`` to resume from: the last one, else the previous one; or
    None.

    It needs ``best.ckpt`` of its best epoch or of a later one, which training reaches again; its
    weights are put into the content. Each file is read once.
    """
    best = _load_best(folder / "best.ckpt")
    for checkpoint in checkpoint_files.whole(folder / "last.ckpt"):
        states = checkpoint.content.get("callbacks", {})
        best_epoch = int(states.get(Checkpoints.__qualname__, {}).get("best_epoch", 0))
        if not best_epoch:
            return checkpoint
        if best is not None and best_epoch <= int(best.content["epoch"]):
            checkpoint.content[_BEST] = best.content["state_dict"]
            return checkpoint
    return None


def _load_best(path: Path) -> Checkpoint | None:
    if path.exists():
        return checkpoint_files.load_if_whole(path)
    before = checkpoint_files.load_if_whole(checkpoint_files.previous(path))
    if before is not None and not getattr(rank_zero_only, "rank", 0):
        before.path.replace(path)  # the process died between the two renames that replace it
    return before
