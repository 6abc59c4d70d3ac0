"""Set Lightning's loops from the number of steps done; its saved loop state is not used.

It has some ten kinds of restart, none of them in the middle of a batch, and a batch carries many
steps here.
"""

from collections.abc import MutableMapping
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
    loop, epochs, steps = trainer.fit_loop, loader.epochs_done, loader.done()
    for progress in (loop.epoch_progress.total, loop.epoch_progress.current):
        for stage in ("ready", "started", "processed", "completed"):
            setattr(progress, stage, epochs)
    done = loop.epoch_loop.manual_optimization.optim_step_progress.total
    done.ready = done.completed = steps
