"""Set Lightning's loops from the number of steps done; its saved loop state is not used.

It has some ten kinds of restart, none of them in the middle of a batch, and a batch carries many
steps here.
"""

from collections.abc import MutableMapping
from typing import Any

import pytorch_lightning as pl


def drop_loop_state(checkpoint: MutableMapping[str, Any]) -> None:
    """Keep Lightning from restoring its loops: to be called from ``on_load_checkpoint``."""
    checkpoint.pop("loops", None)


def resume_loops(trainer: pl.Trainer, steps: int, per_epoch: int) -> None:
    """Set ``trainer``'s loops as after ``steps`` optimizer steps; call it from ``on_fit_start``.

    It begins the epoch that the next step belongs to; the loader yields what is left of it.

    Args:
        trainer: In ``on_fit_start``.
        steps: Optimizer steps done.
        per_epoch: Optimizer steps of an epoch.
    """
    loop = trainer.fit_loop
    epochs = steps // per_epoch
    for progress in (loop.epoch_progress.total, loop.epoch_progress.current):
        for stage in ("ready", "started", "processed", "completed"):
            setattr(progress, stage, epochs)
    done = loop.epoch_loop.manual_optimization.optim_step_progress.total
    done.ready = done.completed = steps
