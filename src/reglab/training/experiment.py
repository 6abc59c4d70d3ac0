"""One job, whoever describes it (a composed config or ten lines of Python), trained by Lightning and recorded."""

import logging
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from lightning_fabric.utilities.warnings import PossibleUserWarning
from torch import nn
from torch.optim import Optimizer

from reglab.analysis.per_example_file import FILE
from reglab.config.instantiate import construct
from reglab.core import signals
from reglab.core.errors import UserError
from reglab.data import DataSet
from reglab.distributed.module_blocks import matching
from reglab.distributed.slurm import cluster
from reglab.distributed.strategies import DOUBLE, HALF_SCALED, Sharded, fits_sharding, prepared, resolved
from reglab.measures import MeasureSettings, evaluate, one_part, side, to_floats
from reglab.regularizers import Cocktail, overrides
from reglab.tracking import RunTracker
from reglab.training.checkpoints import AtomicCheckpoints, Checkpoints, Ended
from reglab.training.execution_settings import taken
from reglab.training.finalize import Closing, settle
from reglab.training.polish import check_polish
from reglab.training.recipe import Recipe
from reglab.training.recorder import Progress, Recorder
from reglab.training.silent_hooks import check_hooks
from reglab.training.solo import Solo
from reglab.training.sparse_gradients import takes_sparse
from reglab.training.step_size import check_known
from reglab.training.torch_compile import compile_options


@dataclass(frozen=True)
class Experiment:
    """What one job trains and how.

    trainer: arguments of ``pytorch_lightning.Trainer``. description: plain values in the checkpoints, from which
    ``reglab.load`` builds the model again.
    """

    model: nn.Module
    cocktail: Cocktail
    data: DataSet
    recipe: Recipe
    measure: MeasureSettings = field(default_factory=MeasureSettings)
    trainer: Mapping[str, Any] = field(default_factory=dict)
    description: Mapping[str, Any] = field(default_factory=dict)
    checkpoint_seconds: float = 10.0


def fit(
    experiment: Experiment,
    tracker: RunTracker,
    on_progress: Callable[[Progress], None] | None = None,
    resume: Path | None = None,
) -> dict[str, float]:
    """Train, record each epoch in ``tracker``, and return the metrics of the weights that the run stands for.

    Those are the best epoch's where a member of the cocktail may stop early, otherwise the last, and the average where
    one keeps it; ``experiment.model`` has them afterwards. Raises Diverged if the loss stops being finite,
    KeyboardInterrupt on Ctrl-C or SIGTERM.
    """
    data, measure = experiment.data, experiment.measure
    if experiment.trainer.get("precision") in DOUBLE:
        experiment.model.double()  # before Lightning does, so that averages of the weights are as exact as the weights
    engine, _ = taken(experiment.trainer)
    module = Solo(experiment.model, experiment.cocktail, data.train, data.task, experiment.recipe, engine)
    check_hooks(module.model, module.cocktail, data.train.inputs, data.train.index)
    module.save_hyperparameters(dict(experiment.description))
    checkpoints = Checkpoints(tracker.folder / "checkpoints", measure.monitor, experiment.checkpoint_seconds)
    recorder = Recorder(data, measure, tracker, checkpoints, on_progress)
    with quiet_lightning():
        closing = Closing(recorder, checkpoints)
        trainer = build_trainer(experiment, [recorder, checkpoints, closing])
        if trainer.world_size > 1:
            where = f"{trainer.world_size} x {trainer.strategy.root_device.type}, {type(trainer.strategy).__name__}"
            tracker.tag(**{"reglab.devices": where})
        try:
            run_trainer(trainer, module, module.loader(), resume)
        finally:
            module.release()
    final = closing.final
    settle(module.model, module.cocktail)
    tracker.tag(**{"reglab.weights": "best" if experiment.cocktail.stops else "last"})
    if trainer.is_global_zero:
        for path in (checkpoints.best, checkpoints.last):
            tracker.artifact(path, "checkpoints")
    if closing.examples is not None:
        closing.examples.write(tracker.folder / FILE)
        tracker.artifact(tracker.folder / FILE)
    return final


def summary(final: Mapping[str, float]) -> dict[str, float]:
    """Return what of a run's final metrics stands for the run: gap, scores, and statistics of all weights."""
    kept = {key: value for key, value in final.items() if key.split("/")[0] in ("train", "val", "gap", "epoch")}
    prefix = "weights/averaged/" if "weights/averaged/l2" in final else "weights/all/"
    return kept | {
        f"weights/{key.removeprefix(prefix)}": value for key, value in final.items() if key.startswith(prefix)
    }


def test_metrics(model: nn.Module, cocktail: Cocktail, data: DataSet, measure: MeasureSettings) -> dict[str, float]:
    """Return what is measured of the test part, ``test/loss`` and so on, with the weights that the run is judged by.

    Each comes with its standard error over the examples, ``_se``, and the ends of its interval, ``_low`` and ``_high``.
    """
    part, task = data.test, data.task
    weight = next(model.parameters())
    kind = weight.dtype if part.inputs.is_floating_point() else part.inputs.dtype
    inputs = part.inputs.to(weight.device, kind)
    targets = part.targets.to(weight.device)
    with cocktail.evaluating(model):
        seen = evaluate(model, inputs, targets, task)
    weights, units = (
        None if each is None else each.to(weight.device)
        for each in (part.weights if data.weighted else None, data.target_scale)
    )
    tested = side(seen, task, weights=weights, units=units)
    return to_floats(one_part("test", tested, task, measure.level, measure.wanted))


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


def check_seed(seed: object) -> int:
    """Return ``seed``. Raises UserError unless it is an integer that 63 bits hold."""
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        raise UserError(f"seed must be an integer >= 0, got {seed}")
    return seed


def check(experiment: Experiment) -> None:
    """Raise UserError, before a run is opened, if optimizer, schedule, trainer, ``where`` or monitor are wrong."""
    optimizer = experiment.recipe.build_optimizer([nn.Parameter(torch.zeros(1))])
    experiment.recipe.build_scheduler(optimizer, 1)
    takes_sparse(optimizer)
    experiment.cocktail.check_selections(experiment.model)
    if any(member.proximal for _, member in experiment.cocktail.named_regularizers()):
        check_known(optimizer)
    for name, member in experiment.cocktail.named_regularizers():
        if experiment.data.tokens is not None and "mixing" in member.claims:
            raise UserError(f"regularizer {name} mixes inputs, and tokens have no mean: leave it out")
    with quiet_lightning():
        trainer = build_trainer(experiment, [])
    check_combination(experiment, trainer, optimizer)
    experiment.measure.check(experiment.data.task, experiment.data.weighted)


def check_combination(experiment: Experiment, trainer: pl.Trainer, optimizer: Optimizer) -> None:
    """Raise UserError for settings that do not go together."""
    engine, settings = taken(experiment.trainer)
    sharded, scaled = isinstance(trainer.strategy, Sharded), settings.get("precision") in HALF_SCALED
    two = [name for name, member in experiment.cocktail.named_regularizers() if overrides(member, "on_gradient")]
    shards = getattr(trainer.strategy, "shards", None)
    if shards is not None and trainer.world_size % shards:
        raise UserError(f"trainer.shards={shards} does not divide the {trainer.world_size} devices")
    if scaled and trainer.strategy.root_device.type == "cpu":
        raise UserError("trainer.precision=16-mixed needs a GPU; on a CPU use trainer.precision=bf16-mixed")
    if scaled and two:
        raise UserError(
            f"trainer.precision=16-mixed scales gradients, which does not go with {two[0]}, which takes two of them a "
            "step; use trainer.precision=bf16-mixed"
        )
    if scaled and experiment.recipe.optimizer.get("fused"):
        raise UserError(
            "optimizer.fused=true skips steps where nobody sees it under trainer.precision=16-mixed; leave it out, or "
            "use trainer.precision=bf16-mixed"
        )
    if engine.polish:
        check_polish(experiment.cocktail, optimizer, trainer.world_size)
    if sharded:
        fits_sharding(experiment.model, optimizer)
    if engine.activation_checkpointing:
        matching(experiment.model, engine.activation_checkpointing, "trainer.activation_checkpointing")
    if engine.compile:
        compile_options(engine.compile)


def run_trainer(trainer: pl.Trainer, module: pl.LightningModule, loader: Iterable[Any], resume: Path | None) -> None:
    """Let Lightning train. Raises UserError for a setting that Lightning refuses, Interrupted on Ctrl-C or SIGTERM."""
    try:
        # each step seeds the generators; the user's own go on as they were
        own = [trainer.strategy.root_device] if trainer.strategy.root_device.type == "cuda" else []
        with torch.random.fork_rng(devices=own), signals.deferred():
            trainer.fit(module, train_dataloaders=loader, ckpt_path=resume, weights_only=True)
    except MisconfigurationException as error:
        raise UserError(f"trainer: {error}") from error
    except Ended as end:
        raise signals.Interrupted(end.number) from end
    except SystemExit as end:
        # Lightning turns KeyboardInterrupt into exit code 1, and ignores the signal from then on.
        signals.answer()
        raise signals.Interrupted(signals.asked() or signal.SIGINT) from end


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
