"""Validation of an experiment's settings, alone and combined, before its run is opened."""

import copy
import os
import warnings

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import ModelParallelStrategy
from torch.optim import Optimizer

from reglab.config.unforeseen import value_errors_as_user_errors
from reglab.core.errors import UserError, nearest
from reglab.core.metric_direction import OF_TASKS
from reglab.distributed.module_blocks import matching
from reglab.distributed.strategies import HALF_SCALED, Sharded, check_sharding
from reglab.distributed.sync_batchnorm import has_batchnorm
from reglab.measures import side
from reglab.measures.evaluate import evaluation_of
from reglab.measures.groups import check_rows
from reglab.measures.own_scores import OwnScore
from reglab.regularizers import Cocktail, overrides
from reglab.regularizers.weight_average import BY_OPTIMIZER
from reglab.tasks import task_named
from reglab.training.execution_settings import split_settings
from reglab.training.experiment import Experiment
from reglab.training.loader import Steps
from reglab.training.optimizer_average import OptimizerAverage
from reglab.training.optimizer_checks import check_steps
from reglab.training.param_groups import optimizer_arguments
from reglab.training.per_example import constant_predictor
from reglab.training.polish import check_polish
from reglab.training.schedule import Schedule, check_rates
from reglab.training.sparse_gradients import takes_sparse
from reglab.training.step_size import known_rule
from reglab.training.torch_compile import compile_options
from reglab.training.trainer import build_trainer, quiet_lightning

_MIN_PROCESS_LIMIT = 64  # are started on a CPU in any case
_TRIED = 64  # rows that a score is tried on


def check_seed(seed: object, key: str = "seed") -> int:
    """Return ``seed``.

    Args:
        seed: As given.
        key: How it was given, for the message.

    Raises:
        UserError: Unless it is an integer that 63 bits hold.
    """
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        raise UserError(f"{key} must be an integer >= 0, got {seed}")
    return seed


@value_errors_as_user_errors("the configuration")
def check_experiment(experiment: Experiment) -> None:
    """Raise UserError, before a run is opened, if optimizer, schedule, trainer, ``where`` or
    monitor are wrong.
    """
    optimizer = experiment.recipe.build_optimizer(experiment.model)
    check_steps(optimizer, optimizer_arguments(experiment.recipe.optimizer))
    rows = experiment.recipe.batch_size * split_settings(experiment.trainer)[0].accumulate
    steps = Steps(len(experiment.data.train), rows, 0, experiment.recipe, lambda: 0)
    schedule = experiment.recipe.build_schedule(optimizer, steps.per_epoch)
    if schedule is not None:
        _check_watched(experiment, schedule)
        total = experiment.recipe.steps or steps.per_epoch * experiment.recipe.epochs
        check_rates(schedule, optimizer, total, steps.per_epoch)
    _check_average(experiment.cocktail, type(optimizer).__name__)
    takes_sparse(optimizer)
    experiment.cocktail.check_selections(experiment.model)
    if any(member.proximal for _, member in experiment.cocktail.named_regularizers()):
        known_rule(optimizer)
    for name, member in experiment.cocktail.named_regularizers():
        if experiment.data.tokens is not None and "mixing" in member.claims:
            raise UserError(f"regularizer.{name} mixes inputs, which does not work with tokens; leave it out")
        if experiment.data.own is not None and member.tasks is not None:
            raise UserError(f"regularizer.{name} changes the loss of the task, and this loss is your own; leave it out")
    with quiet_lightning():
        trainer = build_trainer(experiment, [])
    _check_processes(trainer)
    check_combination(experiment, trainer, optimizer)
    check_batchnorm(experiment)
    if isinstance(trainer.strategy, ModelParallelStrategy):
        why = "trainer=fsdp leaves each rank a part of them: use trainer=ddp"
        experiment.measure.check_needs({"function": why})
    experiment.measure.check(experiment.data.task, experiment.data.weighted)
    for measure in experiment.measure.named.values():
        measure.check_model(experiment.model)
    for part in (experiment.data.train, experiment.data.val, experiment.data.test):
        check_rows(experiment.data.criterion, len(part))
    _check_weights(experiment)
    _try_scores(experiment)


def _check_average(cocktail: Cocktail, optimizer: str) -> None:
    """Refuse what moves the weights between the steps of an optimizer that keeps others beside them."""
    members = cocktail.named_regularizers()
    if not any(isinstance(member, OptimizerAverage) for _, member in members):
        return
    for name, member in members:
        if member.proximal:
            raise UserError(
                f"regularizer.{name} sets weights to exactly zero, which an average of them is not: use another "
                "optimizer, such as adamw, or l1_subgradient"
            )
        if name != BY_OPTIMIZER and any(overrides(member, hook) for hook in ("before_step", "on_step")):
            raise UserError(
                f"regularizer.{name} changes the weights between two steps, and {optimizer} keeps others beside them, "
                "which it would not change: use optimizer=schedule_free, or a penalty such as l2"
            )


def _check_weights(experiment: Experiment) -> None:
    """Refuse weights of examples that are judged by comparison with others."""
    data = experiment.data
    if data.weighted and not data.criterion.per_example:
        raise UserError(
            f"the loss of {data.task} compares rows, which example weights cannot weigh: leave data.sample_weight out"
        )


def _try_scores(experiment: Experiment) -> None:
    """Raise UserError for a score of the user's that fails, or is several values, on some rows."""
    data, task = experiment.data, experiment.data.criterion
    own = [score for score in experiment.measure.scores if isinstance(score, OwnScore)]
    if not own:
        return
    targets = data.val.targets[:_TRIED].cpu()
    constant = constant_predictor(data.train.targets.cpu(), len(targets), data.outputs, task)
    noise = torch.randn(constant.shape, generator=torch.Generator().manual_seed(0))
    tried = side(evaluation_of(constant + noise, targets, task), task)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of too few rows
        for score in own:
            score.estimate(tried, task)


def _check_watched(experiment: Experiment, schedule: Schedule) -> None:
    """Refuse a schedule that waits for a metric which is not measured."""
    always = [name for name in OF_TASKS if name in task_named(experiment.data.task).scores]
    wanted = [str(score) for score in experiment.measure.wanted]
    known = dict.fromkeys(["val/loss", experiment.measure.monitor, *(f"val/{name}" for name in (*always, *wanted))])
    if schedule.monitor and schedule.monitor not in known:
        raise UserError(f"scheduler.monitor={schedule.monitor} is not measured; {nearest(schedule.monitor, known)}")


def _check_processes(trainer: pl.Trainer) -> None:
    """Refuse to start processes without end: each device of a CPU is one."""
    most = max(_MIN_PROCESS_LIMIT, os.cpu_count() or 1)
    if trainer.strategy.root_device.type == "cpu" and trainer.num_devices > most:
        raise UserError(
            f"trainer.devices={trainer.num_devices} would start as many processes on this machine's "
            f"{os.cpu_count()} processors: give at most {most}"
        )


def check_batchnorm(experiment: Experiment) -> None:
    """Raise UserError where BatchNorm would get a single value for each channel."""
    data, recipe = experiment.data.train, experiment.recipe
    rows = min(len(data), recipe.batch_size * split_settings(experiment.trainer)[0].accumulate)
    if rows > 1 or not has_batchnorm(experiment.model):
        return
    model = copy.deepcopy(experiment.model).train()  # which statistics it has is not known without trying
    try:
        with torch.no_grad():
            model(data.inputs[:1])
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            return  # another fault, which training names
        raise UserError(
            "a step has one row, and BatchNorm needs two: use data.batch_size=2 or more, or a model without BatchNorm, "
            "such as model.norm=null"
        ) from error


def check_combination(experiment: Experiment, trainer: pl.Trainer, optimizer: Optimizer) -> None:
    """Raise UserError for incompatible settings."""
    engine, settings = split_settings(experiment.trainer)
    sharded, scaled = isinstance(trainer.strategy, Sharded), settings.get("precision") in HALF_SCALED
    two = [name for name, member in experiment.cocktail.named_regularizers() if overrides(member, "on_gradient")]
    shards = getattr(trainer.strategy, "shards", None)
    if shards is not None and trainer.world_size % shards:
        raise UserError(f"trainer.shards={shards} does not divide the {trainer.world_size} devices")
    if not task_named(experiment.data.task).per_example and (trainer.world_size > 1 or engine.accumulate > 1):
        raise UserError(
            f"the loss of {experiment.data.task} compares the rows of a step, which several devices and "
            "trainer.accumulate_grad_batches would part: use one device and larger batches"
        )
    if scaled and trainer.strategy.root_device.type == "cpu":
        raise UserError("trainer.precision=16-mixed needs a GPU; on a CPU use trainer.precision=bf16-mixed")
    if scaled and two == [BY_OPTIMIZER]:
        raise UserError(
            f"trainer.precision=16-mixed does not work with {type(optimizer).__name__}, whose gradients are not taken "
            "at the weights; use trainer.precision=bf16-mixed"
        )
    if scaled and two:
        raise UserError(
            f"trainer.precision=16-mixed does not work with {two[0]}, which computes two gradients a step; use "
            "trainer.precision=bf16-mixed"
        )
    if scaled and experiment.recipe.optimizer.get("fused"):
        raise UserError(
            "optimizer.fused=true does not work with trainer.precision=16-mixed: it skips steps without notice; leave "
            "it out, or use trainer.precision=bf16-mixed"
        )
    if engine.polish and experiment.data.streamed:
        raise UserError("trainer.polish_steps needs all training rows in memory, and they are streamed; leave it out")
    if engine.polish:
        check_polish(experiment.cocktail, optimizer, trainer.world_size)
    if sharded:
        check_sharding(experiment.model, optimizer)
    if engine.activation_checkpointing:
        matching(experiment.model, engine.activation_checkpointing, "trainer.activation_checkpointing")
    if engine.compile:
        compile_options(engine.compile)
