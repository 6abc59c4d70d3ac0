"""Lightning's Trainer: built from a job's settings, run, and kept quiet."""

import logging
import signal
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from lightning_fabric.utilities.warnings import PossibleUserWarning

from reglab.config.instantiate import construct
from reglab.core import signals
from reglab.core.errors import UserError
from reglab.distributed.slurm import cluster
from reglab.distributed.strategies import prepared, resolved
from reglab.training.checkpoints import AtomicCheckpoints, Ended
from reglab.training.execution_settings import taken
from reglab.training.experiment import Experiment


def build_trainer(experiment: Experiment, callbacks: list[pl.Callback]) -> pl.Trainer:
    """Return the Trainer of a job; what it measures, shows and stores is ours, so Lightning's own is off."""
    fixed: dict[str, Any] = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "max_epochs": experiment.recipe.epochs,
        "callbacks": callbacks,
        "plugins": [AtomicCheckpoints(), *cluster()],
    }
    _, settings = taken(experiment.trainer)
    if settings.get("gradient_clip_val") is not None or settings.get("gradient_clip_algorithm") not in (None, "norm"):
        raise UserError(
            "trainer.gradient_clip_val and gradient_clip_algorithm are Lightning's: use trainer.gradient_clip_norm, "
            "which scales proximal steps with the gradient (beside one that is clipped by value, none solves the same "
            "problem)"
        )
    for key in settings:
        if key in fixed:
            raise UserError(f"trainer.{key} is set by reglab, which measures, shows and stores by itself: leave it out")
    try:
        trainer: pl.Trainer = construct(pl.Trainer, {**resolved(settings), **fixed}, "trainer")
    except MisconfigurationException as error:
        raise UserError(f"trainer: {error}") from error
    prepared(trainer.strategy)
    return trainer


def run_trainer(trainer: pl.Trainer, module: pl.LightningModule, loader: Iterable[Any], resume: Path | None) -> None:
    """Let Lightning train. Raises UserError for a setting that Lightning refuses, Interrupted on Ctrl-C or SIGTERM."""
    try:
        # each step seeds the generators; the user's own go on as they were
        own = [trainer.strategy.root_device] if trainer.strategy.root_device.type == "cuda" else []
        with torch.random.fork_rng(devices=own), signals.defer_signals():
            trainer.fit(module, train_dataloaders=loader, ckpt_path=resume, weights_only=True)
    except MisconfigurationException as error:
        raise UserError(f"trainer: {error}") from error
    except Ended as end:
        raise signals.Interrupted(end.number) from end
    except SystemExit as end:
        # Lightning turns KeyboardInterrupt into exit code 1, and ignores the signal from then on.
        signals.install_handlers()
        raise signals.Interrupted(signals.stop_signal() or signal.SIGINT) from end


@contextmanager
def interruptible_again() -> Iterator[None]:
    """Let Ctrl-C mean afterwards what it meant before: Lightning ignores it for good once it was pressed."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is not handler:
            signal.signal(signal.SIGINT, handler)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence Lightning's tips and the warnings that do not apply to a module without Lightning's own loops."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PossibleUserWarning)
            warnings.filterwarnings("ignore", message=".*AMP with fp16 is not supported on CPU")  # ``check`` refuses it
            # Lightning 2.6 asks torch 2.13's pytrees a question that they will stop answering.
            warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
