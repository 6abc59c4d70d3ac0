"""``reglab.fit``: train a plain ``nn.Module`` from Python."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from lightning_utilities.core.rank_zero import rank_zero_only
from torch import Tensor, nn

from reglab.api import spawn
from reglab.core.describe_error import describe_error
from reglab.core.errors import UserError
from reglab.core.keywords import nearest_keyword
from reglab.core.signals import was_signalled
from reglab.core.user_code import user_code
from reglab.data import DataSet
from reglab.measures import MeasureSettings, score_name
from reglab.models.lightning_module import check_plain
from reglab.models.several_inputs import split_inputs
from reglab.processes import rank_environment
from reglab.regularizers import Cocktail, Regularizer, name_members
from reglab.tasks import task_named
from reglab.tracking import RunTracker, TrackingSettings, open_run
from reglab.training import describe
from reglab.training.check import check_experiment, check_seed
from reglab.training.experiment import Experiment
from reglab.training.fit import fit as fit_experiment
from reglab.training.fit import summary, test_metrics
from reglab.training.job_result import record_preprocessing
from reglab.training.length import take_length
from reglab.training.own_callbacks import check_callbacks
from reglab.training.own_loss import with_loss
from reglab.training.preflight import log_advice
from reglab.training.process_state import process_restored
from reglab.training.recipe import Recipe, optimizer_config, scheduler_config
from reglab.training.recorder import Progress
from reglab.training.run_note import run_note, verdict
from reglab.training.trainer_arguments import check_of_fit


@dataclass(frozen=True)
class Fit:
    """A trained model and what was measured.

    Args:
        metrics: At the end.
        history: Each metric's value by epoch, from 0.
    """

    model: nn.Module
    metrics: Mapping[str, float]
    history: Mapping[str, Mapping[int, float]]
    run_id: str | None

    @property
    def gap(self) -> tuple[float, float, float]:
        """The gap in loss and its 95% interval over examples, conditional on the trained model.

        NaN where unknown.
        """
        return self.metrics["gap/loss"], self.metrics["gap/loss_low"], self.metrics["gap/loss_high"]

    def __str__(self) -> str:
        return verdict(self.metrics)


@nearest_keyword
@process_restored()
def fit(
    model: nn.Module,
    data: DataSet,
    regularizers: Sequence[Regularizer] | Mapping[str, Regularizer] | Regularizer = (),
    *,
    epochs: int | None = 50,
    batch_size: int = 32,
    optimizer: str | Mapping[str, Any] = "adam",
    lr: float | Literal["default"] | None = "default",
    scheduler: str | Mapping[str, Any] | None = None,
    seed: int = 0,
    tracking: str | None = None,
    experiment: str | None = None,
    measure: MeasureSettings | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    trainer: Mapping[str, Any] | None = None,
    callbacks: Sequence[pl.Callback] = (),
) -> Fit:
    """Train ``model`` in place under ``regularizers`` and measure it after each epoch.

    Args:
        model: Trained in place; it maps ``[rows, *data.input_shape]`` to ``[rows, data.outputs]``.
        data: From ``reglab.dataset``.
        regularizers: A list, the first innermost, or a mapping by name.
        epochs: Passes over the training rows, >= 1; None where ``trainer`` has ``max_steps``.
        batch_size: Rows of a batch, >= 1.
        optimizer: A name in ``torch.optim``, ``lion`` or ``muon``; or a mapping of ``_target_`` and
            arguments, ``groups`` and ``layer_decay`` among them (docs/optimizers.md).
        lr: Learning rate; None: the optimizer's default; by default 1e-3 for an optimizer given by
            its name, and what the mapping says of one given so.
        scheduler: A class of ``torch.optim.lr_scheduler`` by its name, such as
            ``"CosineAnnealingLR"``, whose length is that of the run; or a mapping of ``_target_``,
            arguments and ``interval``; None: a constant learning rate.
        seed: Of the initial draws, the order of the examples and the regularizers, >= 0.
        tracking: An MLflow URI such as ``sqlite:///reglab.db``; None keeps the result in memory
            alone.
        experiment: The MLflow experiment of a recorded run; None: MLFLOW_EXPERIMENT_NAME, or
            ``reglab``.
        measure: What is measured after an epoch; None: the defaults.
        loss: Of (outputs, targets), the outputs in the shape that the task's losses take: a number
            for each row, or one for all rows, whose gap then has no interval; None: the task's.
        trainer: Arguments of ``pytorch_lightning.Trainer``, such as ``{"accelerator": "cpu"}``, and
            ``gradient_clip_norm``, the largest norm of the gradient. On several devices, a
            notebook's strategy is ``ddp_notebook`` (forks) or ``ddp_spawn`` (the model's class is
            then in a module), a script's ``ddp``, which runs the script once for each device.
        callbacks: Lightning callbacks that observe, as in ``Trainer(callbacks=...)``; what they log is
            in the history as ``logged/...``. Those that would change training are refused, with what
            there is instead.

    Returns:
        The trained model with its metrics, history and MLflow run id.

    Raises:
        UserError: For bad input.
        Diverged: If the loss stops being finite.
    """
    if not isinstance(model, nn.Module) or not isinstance(data, DataSet):
        raise UserError(
            "reglab.fit takes a torch.nn.Module and the data of reglab.dataset(...), in this order; "
            f"got {_kind(model)} and {_kind(data)}"
        )
    watching = check_callbacks(callbacks)
    cocktail = Cocktail(_members(regularizers), check_seed(seed), data.task)
    _check_shapes(model, data)
    data = with_loss(data, loss, model, batch_size)
    settings = {**_checked(trainer, tracking, experiment, measure), "max_epochs": epochs}
    clip_norm = settings.pop("gradient_clip_norm", None)
    length = take_length(settings, len(data.train), batch_size, "epochs")
    chunk, seconds = settings.pop("steps_per_batch", 32), settings.pop("checkpoint_seconds", 10.0)
    chunk = 1 if watching else chunk  # so that a callback sees each step
    judged = measure or MeasureSettings()
    schedule = scheduler_config(scheduler)
    recipe = Recipe(optimizer_config(optimizer, lr), schedule, clip_norm, batch_size, chunk, *length, judged.monitor)
    recipe.freeze(model)
    described = _description(cocktail, data, seed)
    job = Experiment(model, cocktail, data, recipe, judged, settings, described, seconds, watching)
    plan, job = spawn.plan_processes(job)
    if plan and watching:
        raise UserError(
            "callbacks=[...] would see processes of their own, from which nothing comes back: train on one device, or "
            "in a script by trainer={'strategy': 'ddp'}"
        )
    with spawn.allow_notebook() if plan else nullcontext():
        check_experiment(job)
    log_advice(job)
    train = partial(_train, job, tracking, experiment, seed)
    return Fit(model, *(spawn.run(plan, train, model, cocktail) if plan else train()))


def _kind(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"


def _train(job: Experiment, tracking: str | None, experiment: str | None, seed: int) -> spawn.FitResult:
    """Train, and return what a ``Fit`` holds beside the model.

    Of several processes, the first records the run.
    """
    history: dict[str, dict[int, float]] = {}

    def on_progress(progress: Progress) -> None:
        for key, value in progress.metrics.items():
            history.setdefault(key, {})[progress.epoch] = value

    tracking = None if getattr(rank_zero_only, "rank", 0) else tracking
    with ExitStack() as stack:
        folder = Path("runs") / datetime.now().strftime("%Y-%m-%d/%H-%M-%S-%f")
        if tracking is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(rank_environment.exit_with_first_rank())
        tracker = _open(tracking, experiment, folder, job, seed)
        metrics = _train_and_finish(job, tracker, on_progress)
    return metrics, history, None if tracking is None else tracker.run_id


def _checked(trainer: object, tracking: str | None, experiment: str | None, measure: object) -> dict[str, Any]:
    """Return the trainer's arguments; raise UserError for what would have no effect."""
    settings = check_of_fit({} if trainer is None else trainer)
    recorded = "give tracking='sqlite:///reglab.db' too"
    if "max_epochs" in settings:
        raise UserError(f"trainer: give the number of epochs as reglab.fit(..., epochs={settings['max_epochs']})")
    if tracking is None and experiment is not None:
        raise UserError(f"experiment={experiment!r} is where a run is recorded, and none is: {recorded}")
    if tracking is None and isinstance(settings.get("profiler"), str):
        raise UserError(
            f"trainer: a profile is a file of a run that is recorded: {recorded}, or a profiler of Lightning's with a "
            "dirpath"
        )
    if measure is not None and not isinstance(measure, MeasureSettings):
        raise UserError(f"measure={measure!r}: give reglab.MeasureSettings(...)")
    return settings


def _members(regularizers: object) -> dict[str, Regularizer]:
    """Return the members by name, from a list, a mapping, or one alone."""
    named = regularizers if isinstance(regularizers, Mapping) else None
    given = [regularizers] if isinstance(regularizers, Regularizer) else regularizers
    several = list(named.values()) if named is not None else given
    if not isinstance(several, Sequence) or not all(isinstance(member, Regularizer) for member in several):
        raise UserError(f"regularizers must be a list of regularizers, such as [reglab.L1(1e-3)]; got {regularizers!r}")
    return dict(named) if named is not None else name_members(several)


def _train_and_finish(
    job: Experiment, tracker: RunTracker, on_progress: Callable[[Progress], None]
) -> dict[str, float]:
    """Train, and end the run as training ended."""
    try:
        with user_code():
            metrics = summary(fit_experiment(job, tracker, on_progress))
            tested = test_metrics(job.model, job.cocktail, job.data, job.measure) if job.measure.test else {}
    except BaseException as error:
        tracker.tag(**{"reglab.message": describe_error(error)})
        tracker.finish("KILLED" if was_signalled(error) else "FAILED")
        raise
    tracker.summary(metrics | tested)
    record_preprocessing(tracker, job.data)
    tracker.note(run_note(job.data, job.cocktail, metrics))
    tracker.finish("FINISHED")
    return metrics | tested


def _description(cocktail: Cocktail, data: DataSet, seed: int) -> dict[str, Any]:
    return {
        "config": {"model": None, "regularizer": _nodes(cocktail), "seed": seed, "data": {"name": data.name}},
        "input_shape": list(data.input_shape),
        "outputs": data.outputs,
        "task": data.task,
    }


def _open(uri: str | None, experiment: str | None, folder: Path, job: Experiment, seed: int) -> RunTracker:
    backend = {"name": "none", "experiment": experiment} if uri is None else {"uri": uri, "experiment": experiment}
    tags = describe.cocktail_tags(job.cocktail) | {
        "reglab.seed": str(seed),
        "reglab.task": job.data.task,
        "reglab.score": score_name(job.data.task),
        **job.measure.tags,
    }
    params = {
        "model": type(job.model).__name__,
        "optimizer": dict(job.recipe.optimizer),
        "seed": seed,
        "epochs": job.recipe.epochs,
        "batch_size": job.recipe.batch_size,
    }
    for name, member in job.cocktail.named_regularizers():
        params |= {f"regularizer.{name}.{key}": float(it) for key, it in member.named_buffers() if it.ndim == 0}
    return open_run(
        TrackingSettings.from_config(backend),
        name=describe.run_name({"seed": seed}, tags),
        folder=folder,
        config={},
        params=params,
        tags=tags,
        dataset=job.data,
        strengths=describe.strengths(job.cocktail),
    )


def _nodes(cocktail: Cocktail) -> dict[str, Any]:
    """Return config nodes that build the members again; their numbers are in the state dict."""
    nodes = {}
    for name, member in cocktail.named_regularizers():
        node: dict[str, Any] = {"_target_": f"{type(member).__module__}.{type(member).__qualname__}"}
        if isinstance(where := getattr(member, "where", None), str):
            node["where"] = where
        nodes[name] = node
    return nodes


def _check_shapes(model: nn.Module, data: DataSet) -> None:
    """Try the model on two rows, so that a wrong size is reported before training."""
    from reglab.measures import evaluate

    check_plain(type(model), "reglab.fit")
    if data.several:
        split_inputs(model, [each.shape for each in data.several], [each.name for each in data.several])
    rows = slice(0, 2)
    dtype = next((weight.dtype for weight in model.parameters()), torch.float32)
    try:
        device = next((weight.device for weight in model.parameters()), torch.device("cpu"))
        rows_read = data.val.inputs[rows]
        inputs: Tensor = rows_read.to(device, dtype if rows_read.is_floating_point() else rows_read.dtype)
        evaluation = evaluate(model, inputs, data.val.targets[rows].to(device), data.task)
        if (width := task_named(data.task).width(evaluation.outputs)) < data.outputs:
            raise ValueError(f"the model has {width} outputs")
    except (RuntimeError, ValueError, IndexError) as error:
        shape = ", ".join(str(size) for size in data.input_shape) + ("" if data.tokens is None else ", tokens")
        raise UserError(
            f"the model does not fit the data: inputs [rows, {shape}], {data.outputs} outputs wanted for a {data.task} "
            f"task ({str(error).splitlines()[0]})"
        ) from error
