"""Set Lightning's loops from the number of steps done; its saved loop state is not used.

It has some ten kinds of restart, none of them in the middle of a batch, and a batch carries many
steps here.
"""

from collections.abc import Mapping, MutableMapping
from typing import Any

import pytorch_lightning as pl

from reglab.training.loader import EpochSteps


def drop_loop_state(checkpoint: MutableMapping[str, Any]) -> None:
    """Keep Lightning from restoring its loops: to be called from ``on_load_checkpoint``."""
    checkpoint.pop("loops", None)


def resume_loops(trainer: pl.Trainer, loader: EpochSteps) -> None:
    """Set ``trainer``'s loops as after the steps that are done; call it from ``on_fit_start``.

    It begins the epoch that the next step belongs to; the loader yields what is left of it.

    Args:
        trainer: In ``on_fit_start``.
        loader: Which knows the steps that are done.
    """
    set_epochs(trainer, loader.epochs_done)
    done = trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress.total
    done.ready = done.completed = loader.done()


def set_epochs(trainer: pl.Trainer, epochs: int) -> None:
    """Set the loop over epochs as after so many of them.

    Args:
        trainer: In ``on_fit_start``.
        epochs: That are done.
    """
    loop = trainer.fit_loop
    for progress in (loop.epoch_progress.total, loop.epoch_progress.current):
        for stage in ("ready", "started", "processed", "completed"):
            setattr(progress, stage, epochs)


def position_of(trainer: pl.Trainer) -> dict[str, Any]:
    """Return what Lightning's own loops resume from at the start of an epoch, as plain data.

    Args:
        trainer: Between two epochs.
    """
    loop = trainer.fit_loop.epoch_loop
    return {
        "epochs": trainer.fit_loop.epoch_progress.current.completed,
        "batches_that_stepped": loop._batches_that_stepped,
        **{name: progress.state_dict() for name, progress in _progresses(trainer).items()},
    }


def resume_from(trainer: pl.Trainer, position: Mapping[str, Any]) -> None:
    """Set ``trainer``'s loops as ``position_of`` found them; call it from ``on_fit_start``.

    Args:
        trainer: Whose saved loop state was dropped.
        position: Of a checkpoint.
    """
    set_epochs(trainer, position["epochs"])
    trainer.fit_loop.epoch_loop._batches_that_stepped = position["batches_that_stepped"]
    for name, progress in _progresses(trainer).items():
        progress.load_state_dict(position[name])


def _progresses(trainer: pl.Trainer) -> dict[str, Any]:
    loop = trainer.fit_loop.epoch_loop
    return {
        "batches": loop.batch_progress,
        "schedulers": loop.scheduler_progress,
        "automatic": loop.automatic_optimization.optim_progress,
        "manual": loop.manual_optimization.optim_step_progress,
    }
