"""Lightning callback that writes ``last.ckpt`` (to resume from) and ``best.ckpt`` (best epoch).

Written whole or not at all.
"""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import pytorch_lightning as pl
from lightning_fabric.plugins import TorchCheckpointIO
from lightning_utilities.core.rank_zero import rank_zero_only
from torch import Tensor

from reglab.config.unforeseen import value_errors_as_user_errors
from reglab.core import signals
from reglab.core.errors import Diverged, UserError
from reglab.regularizers import Cocktail
from reglab.tracking.folder import JOURNAL
from reglab.training import checkpoint_constants, checkpoint_files
from reglab.training.best_epoch import BestEpochs
from reglab.training.checkpoint_files import Checkpoint
from reglab.training.trainable import Trainable

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


class SameOnAllRanks(pl.Callback):
    """Refuses to resume where the ranks found different checkpoints, which would wait for each
    other for ever.

    Args:
        resume: What this rank found.
    """

    def __init__(self, resume: Checkpoint | None) -> None:
        self._step = -1 if resume is None else int(resume.content.get("global_step", 0))

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Compare the steps.

        Raises:
            UserError: On every rank, if they differ.
        """
        if trainer.world_size == 1:
            return
        first = trainer.strategy.broadcast(self._step)
        if not trainer.strategy.reduce_boolean_decision(self._step == first, all=True):
            found = [
                f"no checkpoint on {name}" if step < 0 else f"that of step {step} on {name}"
                for name, step in (("rank 0", first), (f"rank {trainer.global_rank}", self._step))
            ]
            raise UserError(
                f"the processes found different checkpoints to resume from ({', '.join(found)}): the folder of the run "
                "must be one that all of them see, on a shared file system"
            )


class SaveOnSignal(pl.Callback):
    """Saves at most every ``seconds`` after an epoch, and after the step in which a signal asks to
    end: at the end of an epoch once that is measured, so it comes behind the recorder.

    Args:
        module: The job, or the pack of jobs.
        seconds: Between two savings.
    """

    def __init__(self, module: Trainable, seconds: float) -> None:
        self.module = module
        self.seconds = seconds
        self._written = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        signals.install_handlers()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if self.module.interrupted and self.module.inside_epoch and not trainer.should_stop:
            self._stop(trainer, self.module.interrupted)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        number = self.module.interrupted
        if number and not trainer.should_stop and trainer.current_epoch + 1 != trainer.max_epochs:
            self._stop(trainer, number)
        # Saving waits for every rank, so rank 0's clock decides for all.
        if trainer.strategy.broadcast(self.is_due()):
            self.write(trainer)

    def is_due(self) -> bool:
        """Return whether the last saving is long enough ago."""
        return time.monotonic() - self._written >= self.seconds

    def _stop(self, trainer: pl.Trainer, number: int) -> None:
        self.write(trainer)
        self.stop(number)

    def stop(self, number: int) -> None:
        """End training because of a signal. Raises StoppedBySignal."""
        raise StoppedBySignal(number)

    def write(self, trainer: pl.Trainer) -> None:
        """Write what is not written yet."""
        self.save(trainer)
        self._written = time.monotonic()

    def save(self, trainer: pl.Trainer) -> None:
        """Save the present step."""
        raise NotImplementedError


class Saved(Trainable, Protocol):
    """A job whose state is saved.

    Attributes:
        hparams: What ``reglab.load`` builds the model from again.
        cocktail: Its regularizers.
    """

    cocktail: Cocktail

    @property
    def hparams(self) -> Any: ...
    @property
    def sharded(self) -> bool:
        """Whether each rank holds a part of the state."""

    def snapshot(self) -> dict[str, Tensor]:
        """Return a copy of this rank's state."""

    def whole(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the whole of a state. A collective where it is sharded."""

    def local_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return this rank's part of a whole state."""


class Checkpoints(SaveOnSignal):
    """Keeps ``best.ckpt`` (the lowest or highest ``monitor``) and ``last.ckpt`` in ``folder``.

    Both are written at the end, and at most every ``seconds`` in between: the best first, so that a
    run resumed from ``last.ckpt`` finds its best epoch.

    Args:
        module: The job.
        folder: Of the files.
        monitor: The metric that decides which epoch is best.
        seconds: Between two savings.

    Attributes:
        record: Epoch and metrics of the best epoch.
        best_weights: Its state.
    """

    def __init__(self, module: Saved, folder: Path, monitor: str, seconds: float = 10.0) -> None:
        super().__init__(module, seconds)
        self.folder = folder
        self.record = BestEpochs(monitor)
        self.best_weights: dict[str, Tensor] | None = None
        self._job = module
        self._loaded: dict[str, Tensor] | None = None  # of a resumed run, until training starts
        self._best_is_written = True

    @property
    def last(self) -> Path:
        return self.folder / "last.ckpt"

    @property
    def best(self) -> Path:
        return self.folder / "best.ckpt"

    @property
    def best_epoch(self) -> int:
        return self.record.epochs[0]

    def offer(self, rows: Sequence[int], metrics: Sequence[Mapping[str, float]], epoch: int) -> None:
        """Keep the weights of a measured epoch if they are the best so far."""
        if self.record.offer(rows, metrics, epoch, self.module.steps_done()):
            self.best_weights = self._job.snapshot()
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
            self._job.cocktail.complete(self._loaded)
            self.best_weights = self._job.local_state(self._loaded)
            self._loaded = None

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write what is left.

        Where the best epoch is the last, the two are one file with two names.
        """
        if self.best_epoch != trainer.current_epoch or self.module.inside_epoch or not self.best_epoch:
            self.write(trainer)
            return
        trainer.save_checkpoint(self.best)
        if trainer.is_global_zero:
            checkpoint_files.link(self.best, self.last)
        self._best_is_written = True

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Keep the best epoch.

        The module may be in the middle of a step, which cannot be resumed from.
        """
        if self._job.sharded and not isinstance(exception, Diverged):
            return  # gathering it takes every rank, and not every rank may have come here
        try:
            self._write_best(trainer)
        except OSError as error:  # perhaps the very exception: it must not be hidden by its own consequence
            _log.warning("the best epoch could not be kept in %s: %s", self.best, error)

    def save(self, trainer: pl.Trainer) -> None:
        self._write_best(trainer)
        trainer.save_checkpoint(self.last)

    def _write_best(self, trainer: pl.Trainer) -> None:
        if self._best_is_written:
            return
        assert self.best_weights is not None
        state = self._job.whole(self.best_weights)
        if trainer.is_global_zero:
            content = {
                "state_dict": state,
                "epoch": self.best_epoch,
                "pytorch-lightning_version": version("pytorch-lightning"),
                "hyper_parameters": dict(self._job.hparams),
            }
            checkpoint_files.write(content, self.best)
        self._best_is_written = True

    def state_dict(self) -> dict[str, Any]:
        return self.record.state_of(0)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.record.load_state_of(0, state_dict)


def resumable(folder: Path) -> Checkpoint | None:
    """Return the checkpoint in ``folder`` to resume from: the last one, else the previous one; or
    None.

    It needs ``best.ckpt`` of its best epoch or of a later one, which training reaches again; its
    weights are put into the content. Each file is read once.
    """
    best = _load_best(folder / "best.ckpt")
    journal = folder.parent / JOURNAL
    length = journal.stat().st_size if journal.is_file() else math.inf
    for checkpoint in checkpoint_files.whole(folder / "last.ckpt"):
        with value_errors_as_user_errors(f"the checkpoint {checkpoint.path}"):
            states = checkpoint.content.get("callbacks", {})
            if states.get("Recorder", {}).get("journal", 0) > length:  # its rows are lost: training records them again
                continue
            if name := checkpoint_constants.missing(checkpoint.content):
                _log.warning("%s is missing beside %s, which cannot be resumed from without it", name, checkpoint.path)
                continue
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
    if before is None and path.exists():  # by now: rank 0 has renamed it
        return checkpoint_files.load_if_whole(path)
    if before is not None and not getattr(rank_zero_only, "rank", 0):
        before.path.replace(path)  # the process died between the two renames that replace it
    return before
