"""Train one experiment with Lightning, record it, and return its final metrics."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import pytorch_lightning as pl
from torch import Tensor, nn

from reglab.analysis.per_example_file import FILE
from reglab.data import DataSet
from reglab.distributed.strategies import DOUBLE
from reglab.measures import MeasureSettings, evaluate, one_part, side, to_floats
from reglab.regularizers import Cocktail
from reglab.tracking import RunTracker
from reglab.training.checkpoint_files import Checkpoint
from reglab.training.checkpoints import Checkpoints
from reglab.training.execution_settings import split_settings
from reglab.training.experiment import Experiment
from reglab.training.finalize import Finalizer, load_evaluation_weights
from reglab.training.logged import LoggedRecorder
from reglab.training.measured_rows import StreamedRows
from reglab.training.own_callbacks import warn_of_state
from reglab.training.own_module import Package
from reglab.training.recorder import Progress, Recorder
from reglab.training.run_logger import RunLogger
from reglab.training.silent_hooks import check_hooks
from reglab.training.solo import Solo
from reglab.training.trainer import PROFILE, build_trainer, quiet_lightning, run_trainer

T = TypeVar("T")
_log = logging.getLogger(__name__)
# Of the last epoch's steps, of label noise, recorded apart (the test part), by layer or by class.
_OF_TRAINING: tuple[str, ...] = ("objective", "naive_gap", "optimizer", "system", "logged")
_OF_TRAINING += ("memorization", "test", "weights", "by_class")


def fit(
    experiment: Experiment,
    tracker: RunTracker,
    on_progress: Callable[[Progress], None] | None = None,
    resume: Checkpoint | None = None,
    module_class: type[Solo] = Solo,
    callbacks: Sequence[pl.Callback] = (),
) -> dict[str, float]:
    """Train, record each epoch in ``tracker``, and return the metrics of the weights that the run
    stands for.

    Those are the best epoch's where a member of the cocktail may stop early, otherwise the last,
    and the average where one keeps it; ``experiment.model`` has them afterwards.

    Args:
        experiment: What to train.
        tracker: Of the run.
        on_progress: Called after each measured epoch.
        resume: Checkpoint to resume from.
        module_class: Of the LightningModule: ``Solo`` or one that observes its steps.
        callbacks: Called behind those that record and save.

    Returns:
        The final metrics by name.

    Raises:
        Diverged: If the loss stops being finite.
        KeyboardInterrupt: On Ctrl-C or SIGTERM.
    """
    data, measure = experiment.data, experiment.measure
    if experiment.trainer.get("precision") in DOUBLE:
        experiment.model.double()  # before Lightning does, so that averages of the weights are as exact as the weights
    engine, _ = split_settings(experiment.trainer)
    module = module_class(experiment.model, experiment.cocktail, data.train, data.criterion, experiment.recipe, engine)
    check_hooks(module.model, module.cocktail, data.train.inputs, data.train.index)
    module.save_hyperparameters(dict(experiment.description), logger=False)
    own, seconds = experiment.callbacks, experiment.checkpoint_seconds
    late = Package("pytorch_lightning").late if own else _as_it_is  # behind the user's
    checkpoints = late(Checkpoints)(module, tracker.folder / "checkpoints", measure.monitor, seconds)
    report = None if on_progress is None else lambda _, progress: on_progress(progress)
    recorder = late(LoggedRecorder if own else Recorder)(
        module, [data], measure, [tracker], checkpoints, report, experiment.recipe.min_epochs
    )
    if resume:
        warn_of_state(own)
    with quiet_lightning():
        finalizer = late(Finalizer)(module, recorder, checkpoints)
        logger = RunLogger(tracker.folder, tracker) if own else None
        ours = [recorder, checkpoints, finalizer, *callbacks]
        trainer = build_trainer(experiment, [*own, *ours], tracker.folder, logger)
        if trainer.world_size > 1:
            where = f"{trainer.world_size} x {trainer.strategy.root_device.type}, {type(trainer.strategy).__name__}"
            tracker.tag(**{"reglab.devices": where})
        try:
            run_trainer(trainer, module, {"train_dataloaders": module.loader()}, resume)
        finally:
            module.release()
    final = finalizer.final
    load_evaluation_weights(module.model, module.cocktail)
    files = [checkpoints.best, checkpoints.last] if trainer.is_global_zero else []
    record_weights(tracker, experiment.cocktail, files)
    record_profile(tracker)
    if finalizer.examples is not None:
        finalizer.examples.write(tracker.folder / FILE)
        tracker.artifact(tracker.folder / FILE)
    return final


def _as_it_is(callback: type[T]) -> type[T]:
    return callback


def record_profile(tracker: RunTracker) -> None:
    """Record what a profiler wrote, if there was one.

    Args:
        tracker: Of the run.
    """
    for path in sorted(tracker.folder.glob(f"*-{PROFILE}*")):
        tracker.artifact(path)


def record_weights(tracker: RunTracker, cocktail: Cocktail, checkpoints: Sequence[Path]) -> None:
    """Record which weights a run stands for, and its checkpoints.

    Args:
        tracker: Of the run.
        cocktail: Which may stop early.
        checkpoints: The files.
    """
    tracker.tag(**{"reglab.weights": "best" if cocktail.stops else "last"})
    for path in checkpoints:
        if path.exists():
            tracker.artifact(path, "checkpoints")
        else:
            _log.warning("%s was deleted while the run trained, so its artifacts lack it", path)


def summary(final: Mapping[str, float]) -> dict[str, float]:
    """Return what of a run's final metrics stands for the run: gap, scores, statistics of all
    weights, and what other measures say.
    """
    kept = {key: value for key, value in final.items() if key.split("/")[0] not in _OF_TRAINING and not _by_layer(key)}
    prefix = "weights/averaged/" if "weights/averaged/l2" in final else "weights/all/"
    return kept | {
        f"weights/{key.removeprefix(prefix)}": value for key, value in final.items() if key.startswith(prefix)
    }


def _by_layer(key: str) -> bool:
    measure, _, rest = key.partition("/")
    return measure in ("gradient", "curvature") and "/" in rest and not rest.startswith("all/")


def test_metrics(model: nn.Module, cocktail: Cocktail, data: DataSet, measure: MeasureSettings) -> dict[str, float]:
    """Return what is measured of the test part, ``test/loss`` and so on, with the weights that the
    run is judged by.

    Each comes with its standard error over the examples, ``_se``, and the ends of its interval,
    ``_low`` and ``_high``.

    Args:
        model: A trained model.
        cocktail: Which may keep averaged weights.
        data: Whose test part is measured.
        measure: Level of the intervals, and scores.

    Returns:
        Metrics by name.
    """
    part, task = data.test, data.criterion
    weight = next(model.parameters())
    dtype = weight.dtype if part.inputs.is_floating_point() else part.inputs.dtype
    inputs = (
        part.inputs.to(weight.device, dtype)
        if isinstance(part.inputs, Tensor)
        else StreamedRows([part.inputs], weight.device, dtype)
    )
    targets = part.targets.to(weight.device)
    with cocktail.evaluating(model):
        evaluation = evaluate(model, inputs, targets, task)
    weights, units = (
        None if each is None else each.to(weight.device)
        for each in (part.weights if data.weighted else None, data.target_scale)
    )
    tested = side(evaluation, task, weights=weights, units=units)
    return to_floats(one_part("test", tested, task, measure.level, measure.wanted))
