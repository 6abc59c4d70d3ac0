"""Train one job in Lightning's own loop, from a composed config to a finished MLflow run."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import pytorch_lightning as pl
from omegaconf import DictConfig

from reglab.analysis.per_example_file import FILE
from reglab.config.job_request import JobRequest
from reglab.tracking import RunTracker
from reglab.tracking.run_state import RunState
from reglab.training import fit
from reglab.training.check import check_seed
from reglab.training.checkpoint_files import Checkpoint
from reglab.training.finalize import load_evaluation_weights
from reglab.training.fit import record_weights, summary
from reglab.training.job_result import JobResult, record_summary
from reglab.training.job_run import run_recorded
from reglab.training.lightning.callbacks import ModuleCheckpoints, ModuleFiles, ModuleFinalizer, ModuleRecorder
from reglab.training.lightning.prepare import ModuleJob, prepare_module, seeded
from reglab.training.lightning.testing import test_metrics
from reglab.training.lightning.trained_module import TrainedModule
from reglab.training.logged import LOGGED
from reglab.training.own_callbacks import warn_of_state
from reglab.training.process_state import process_restored
from reglab.training.recorder import Progress
from reglab.training.run_logger import RunLogger
from reglab.training.run_note import steps_note
from reglab.training.trainer import quiet_lightning, run_trainer, with_profiler

_log = logging.getLogger(__name__)


@process_restored()
def run_module_job(
    config: DictConfig,
    on_progress: Callable[[Progress], None] | None = None,
    resume: RunState | None = None,
    request: JobRequest | None = None,
) -> JobResult:
    """Train the LightningModule that ``config`` describes by its own steps, and record it.

    How its run is opened or resumed, and ends: see ``run_recorded``.

    Args:
        config: As composed.
        on_progress: Called after each measured epoch.
        resume: The state of a run to resume in any case, even if finished.
        request: Of the sweep that the job belongs to.

    Raises:
        UserError: For bad input, before a run is opened.
    """
    with seeded(_seed(config)):
        prepared = prepare_module(config, request)

        def train(tracker: RunTracker, checkpoint: Checkpoint | None) -> JobResult:
            final = _fit(prepared, tracker, on_progress, checkpoint)
            if prepared.measure.test:
                final |= _tested(prepared)
            note = steps_note(prepared.data.name, prepared.regularize.cocktail, final)
            return record_summary(tracker, summary(final) | _logged(final), final, note)

        return run_recorded(prepared, train, resume)


def _fit(
    prepared: ModuleJob,
    tracker: RunTracker,
    on_progress: Callable[[Progress], None] | None,
    resume: Checkpoint | None,
) -> dict[str, float]:
    module, measure = prepared.module, prepared.measure
    trained = TrainedModule(module, prepared.regularize, prepared.data.task, prepared.description)
    seconds = prepared.job["trainer"].get("checkpoint_seconds", 10.0)
    late = prepared.package.late
    checkpoints = late(ModuleCheckpoints)(trained, tracker.folder / "checkpoints", measure.monitor, seconds)
    report = None if on_progress is None else lambda _, progress: on_progress(progress)
    recorder = late(ModuleRecorder)(
        trained, [], measure, [tracker], checkpoints, report, prepared.arguments.get("min_epochs") or 0
    )
    finalizer = late(ModuleFinalizer)(trained, recorder, checkpoints)
    with quiet_lightning():
        if resume:
            warn_of_state(prepared.callbacks)
        ours = [recorder, checkpoints, finalizer]
        trainer = _trainer(
            prepared, RunLogger(tracker.folder, tracker), [prepared.regularize, *prepared.callbacks, *ours]
        )
        if trainer.world_size > 1:
            where = f"{trainer.world_size} x {trainer.strategy.root_device.type}, {type(trainer.strategy).__name__}"
            tracker.tag(**{"reglab.devices": where})
        run_trainer(trainer, module, prepared.data.sources, resume, ModuleFiles(trained, resume))
    tracker.tag(**{**prepared.measure.tags, **trained.tags})
    load_evaluation_weights(module, trained.cocktail)
    record_weights(tracker, trained.cocktail, [checkpoints.best, checkpoints.last] if trainer.is_global_zero else [])
    fit.record_profile(tracker)
    if finalizer.examples is not None:
        finalizer.examples.write(tracker.folder / FILE)
        tracker.artifact(tracker.folder / FILE)
    return finalizer.final


def _tested(prepared: ModuleJob) -> dict[str, float]:
    """Return what is measured of the test part, with the weights that the run stands for."""
    data, module = prepared.data, prepared.module
    if data.loaded is not None:
        return fit.test_metrics(module, prepared.regularize.cocktail, data.loaded, prepared.measure)
    return test_metrics(module, prepared.package, prepared.job["trainer"], data.test)


def _trainer(prepared: ModuleJob, logger: RunLogger, callbacks: list[pl.Callback]) -> pl.Trainer:
    """Return the Trainer of the package that the module's class is from."""
    trainer: pl.Trainer = prepared.package.get("Trainer")(
        **with_profiler(prepared.arguments, Path(logger.save_dir)),
        logger=logger,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks,
    )
    return trainer


def _logged(final: Mapping[str, float]) -> dict[str, float]:
    return {key: value for key, value in final.items() if key.startswith(LOGGED)}


def _seed(config: DictConfig) -> int:
    return check_seed(config.get("seed"))
