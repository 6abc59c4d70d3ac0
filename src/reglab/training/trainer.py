"""Build, run and silence Lightning's ``Trainer``."""

import logging
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from lightning_fabric.utilities.warnings import PossibleUserWarning
from pytorch_lightning.profilers import AdvancedProfiler, PyTorchProfiler, SimpleProfiler

from reglab.config.instantiate import construct
from reglab.config.unforeseen import OF_VALUES
from reglab.core import signals
from reglab.core.describe_error import describe_error
from reglab.core.errors import CodeFailed, UserError
from reglab.core.user_code import without_stop_iteration
from reglab.distributed.slurm import cluster_plugins
from reglab.distributed.strategies import destroy_group_at_exit, disable_buffer_broadcast, trainer_arguments
from reglab.training.checkpoint_files import Checkpoint
from reglab.training.checkpoints import AtomicCheckpoints, SameOnAllRanks, StoppedBySignal
from reglab.training.execution_settings import split_settings
from reglab.training.experiment import Experiment
from reglab.training.run_logger import RunLogger
from reglab.training.trainer_arguments import supported

# Called inside Lightning's loops, which a StopIteration ends as if their data were used up.
_IN_LOOP = ("training_step", "on_train_start", "on_train_epoch_start", "on_train_batch_start", "on_train_batch_end",
            "on_train_epoch_end")  # fmt: skip
PROFILE = "profile"  # Lightning writes fit-profile.txt
_PROFILERS: Mapping[Any, Callable[..., Any]] = {
    "simple": SimpleProfiler,
    "advanced": AdvancedProfiler,
    "pytorch": PyTorchProfiler,
}

# Of both packages of Lightning.
_LOGGERS = ("pytorch_lightning", "lightning_fabric", "lightning.pytorch", "lightning.fabric")
_RESTORING = (
    "pytorch_lightning.trainer.connectors.checkpoint_connector",
    "pytorch_lightning.utilities.migration.utils",
)


def build_trainer(
    experiment: Experiment,
    callbacks: list[pl.Callback],
    folder: Path | None = None,
    logger: RunLogger | None = None,
) -> pl.Trainer:
    """Return the Trainer of a job, without Lightning's loggers, checkpoints and progress bar.

    Args:
        experiment: The job.
        callbacks: In their order.
        folder: Of the run, where a profile is written to.
        logger: Of what callbacks log, with checkpoints among the callbacks; None: they log nothing.

    Raises:
        UserError: For an argument that is wrong, or has no effect.
    """
    fixed: dict[str, Any] = {
        "logger": logger or False,
        "enable_checkpointing": logger is not None,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "max_epochs": experiment.recipe.epochs,
        "callbacks": callbacks,
        "plugins": [AtomicCheckpoints(), *cluster_plugins()],
    }
    settings = with_profiler(supported(split_settings(experiment.trainer)[1]), folder)
    try:
        trainer: pl.Trainer = construct(pl.Trainer, {**trainer_arguments(settings), **fixed}, "trainer")
    except MisconfigurationException as error:
        raise UserError(f"trainer: {error}") from error
    disable_buffer_broadcast(trainer.strategy)
    destroy_group_at_exit()
    return trainer


def with_profiler(settings: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
    """Return arguments of the Trainer, a profiler's name replaced by one that writes into a folder.

    Args:
        settings: The arguments.
        folder: Of the run; None leaves them as they are.
    """
    kind = settings.get("profiler")
    if folder is None or kind not in _PROFILERS:
        return dict(settings)
    return {**settings, "profiler": _PROFILERS[kind](dirpath=folder, filename=PROFILE)}


def run_trainer(
    trainer: pl.Trainer,
    module: pl.LightningModule,
    sources: Mapping[str, Any],
    resume: Checkpoint | None,
    files: AtomicCheckpoints | None = None,
) -> None:
    """Train with Lightning.

    Args:
        trainer: Lightning's.
        module: To train.
        sources: Of the data, as ``Trainer.fit`` takes them.
        resume: Checkpoint to resume from.
        files: Writes and reads checkpoints; by default as they are.

    Raises:
        UserError: For a setting that Lightning refuses.
        Interrupted: On Ctrl-C or SIGTERM.
        CodeFailed: The model or a hook raised what would have ended training or the program quietly.
    """
    try:
        # each step seeds the generators; the user's state is restored
        devices = [trainer.strategy.root_device] if trainer.strategy.root_device.type == "cuda" else []
        path = resume.path if resume else None
        trainer.strategy.checkpoint_io = files or AtomicCheckpoints(resume)
        trainer.callbacks.insert(0, SameOnAllRanks(resume))  # type: ignore[attr-defined]  # Lightning sets it late
        hooks: list[Any] = [module, *trainer.callbacks]  # type: ignore[attr-defined]  # Lightning sets it late
        with torch.random.fork_rng(devices=devices), signals.defer_signals(), without_stop_iteration(hooks, _IN_LOOP):
            trainer.fit(module, **sources, ckpt_path=path, weights_only=True)
    except OF_VALUES as error:
        if not _is_raised_while_restoring(error):
            raise
        raise UserError(f"the checkpoint {path} does not fit this run: {describe_error(error)}") from error
    except _misconfigured() as error:
        if not _is_raised_by_lightning(error):
            raise
        raise UserError(f"trainer: {error}") from error
    except StoppedBySignal as end:
        raise signals.Interrupted(end.number) from end
    except SystemExit as end:
        # Lightning converts KeyboardInterrupt to exit code 1, and then ignores the signal.
        signals.install_handlers()
        raised = end.__context__ if isinstance(end.__context__, KeyboardInterrupt) else end
        if not signals.was_signalled(raised):
            raise CodeFailed(raised) from end
        raise signals.Interrupted(signals.stop_signal() or signal.SIGINT) from end


def _misconfigured() -> tuple[type[Exception], ...]:
    """Return the class of Lightning's own errors, in each of its packages that is imported."""
    twin = sys.modules.get("lightning.fabric.utilities.exceptions")
    return (MisconfigurationException, *((twin.MisconfigurationException,) if twin else ()))


def _is_raised_while_restoring(error: BaseException) -> bool:
    """Tell whether an error arose while Lightning took the states of a checkpoint."""
    modules = (frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(module in _RESTORING for module in modules)


def _is_raised_by_lightning(error: BaseException) -> bool:
    """Tell whether an error is Lightning's own, not one of a model that uses its class."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__", "")).startswith(("pytorch_lightning", "lightning_fabric", "lightning."))


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence Lightning's tips and the warnings that do not apply to a module without Lightning's
    own loops.
    """
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PossibleUserWarning)
            if twin := sys.modules.get("lightning.fabric.utilities.warnings"):
                warnings.simplefilter("ignore", twin.PossibleUserWarning)
            warnings.filterwarnings("ignore", message=".*AMP with fp16 is not supported on CPU")  # ``check`` refuses it
            # Lightning 2.6 asks torch 2.13's pytrees a question that they will stop answering.
            warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
