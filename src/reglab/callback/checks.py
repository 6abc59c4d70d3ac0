"""Checks of regularizers, strategy and optimizer for ``Regularize``."""

from collections.abc import Mapping, Sequence, Sized

import pytorch_lightning as pl
from pytorch_lightning.strategies import DDPStrategy, DeepSpeedStrategy, ModelParallelStrategy, SingleDeviceStrategy
from torch.optim import LBFGS, Optimizer

from reglab.callback.dataloader_rows import Unpack, inputs_and_targets
from reglab.core.errors import UserError, nearest
from reglab.distributed.parameters import LocalParameters
from reglab.measures import MeasureSettings
from reglab.regularizers import Cocktail, LabelSmoothing, Mixup, Regularizer, name_members, overrides
from reglab.tasks import Task, task_names
from reglab.training.lightning_packages import is_lightning
from reglab.training.optimizer_average import needs_average

_BY_HAND: dict[type[Regularizer], str] = {
    LabelSmoothing: "write in training_step: loss = F.cross_entropy(outputs, targets, label_smoothing={strength:g})",
    Mixup: (
        "write in training_step: share = torch.distributions.Beta({strength:g}, {strength:g}).sample(); "
        "order = torch.randperm(len(x), device=x.device); outputs = self(share * x + (1 - share) * x[order]); "
        "loss = share * F.cross_entropy(outputs, y) + (1 - share) * F.cross_entropy(outputs, y[order])"
    ),
}


def check_task(task: Task | None, loss: object, settings: MeasureSettings) -> None:
    """Raise UserError where it is not said what is measured, or a score is none of the task.

    Args:
        task: Of the outputs.
        loss: A user's own.
        settings: With scores.
    """
    if loss is not None and not callable(loss):
        raise UserError(f"loss must be a function of (module, batch), got {loss!r}")
    if task is None and loss is None:
        raise UserError(
            f"say what is measured: task= one of {', '.join(task_names())}, or loss=lambda module, batch: ..., the "
            "loss of each row or of the batch"
        )
    if task is None and settings.scores:
        raise UserError(f"scores={list(map(str, settings.scores))} are scores of a task; give task= too")
    if task is not None:
        settings.check(task, weighted=False)


def check_used(
    members: Sized,
    every: int | None,
    scores: Sized,
    prefix: str,
    measures: object,
    memory_mb: float,
    optimizer: object,
) -> None:
    """Raise UserError for an argument of ``Regularize`` that nothing would use.

    Args:
        members: The regularizers.
        every: See ``Regularize``, as the others.
    """
    if every is None and (len(scores) or prefix or measures is not None):
        given = "prefix= is put before what is measured" if prefix else "scores= are measured"
        given = given if len(scores) or prefix else "measures= say what is measured"
        raise UserError(f"{given}, and every=None never measures: leave one of them out")
    if optimizer is not None and not len(members):
        raise UserError(
            f"optimizer={optimizer!r} says whose steps regularizers follow, and there are none: leave it out"
        )
    if not memory_mb >= 0:
        raise UserError(f"memory_mb={memory_mb} must be a number of megabytes >= 0")


def check_measures(settings: MeasureSettings) -> None:
    """Raise UserError for a measure that is taken once: a callback does not know which weights a fit
    is to stand for.
    """
    for name, each in settings.at_end.items():
        raise UserError(
            f"measures={name} is taken once, of final weights, and Regularize measures after epochs: give it "
            f"{type(each).__name__}(every=...), a number of epochs, or every=None for each that is measured"
        )


def named_members(
    regularizers: Sequence[Regularizer] | Mapping[str, Regularizer], task: Task | None = None, loss: object = None
) -> dict[str, Regularizer]:
    """Return the members by name.

    Args:
        regularizers: A list, or a dict by name.
        task: Of the outputs, by which label smoothing and mixup act.
        loss: A user's own, by which a second gradient can be taken.

    Raises:
        UserError: For what is no regularizer, or needs more than the callback can give.
    """
    named = by_name(regularizers)
    for name, member in named.items():
        _refuse_wrapper(name, member, task, loss)
    return named


def by_name(regularizers: Sequence[Regularizer] | Mapping[str, Regularizer]) -> dict[str, Regularizer]:
    """Return the members by name.

    Args:
        regularizers: A list, or a dict by name.

    Raises:
        UserError: For what is no regularizer.
    """
    members = list(regularizers.values()) if isinstance(regularizers, Mapping) else regularizers
    if isinstance(members, Regularizer) or not all(isinstance(member, Regularizer) for member in members):
        raise UserError(f"reglab takes a list or a dict of regularizers, such as [L1(1e-4)], got {regularizers!r}")
    return dict(regularizers) if isinstance(regularizers, Mapping) else name_members(members)


def _refuse_wrapper(name: str, member: Regularizer, task: Task | None, loss: object) -> None:
    if overrides(member, "on_objective") and member.reads != "loss" and task is None:
        reason, way_out = "the batch and its loss", "Give task=, where the outputs are of one. "
    elif overrides(member, "on_gradient") and loss is None:
        reason = "a second gradient at other weights for each step"
        way_out = "Give Regularize(..., loss=lambda module, batch: ...), the loss that training_step returns. "
    else:
        return
    line = next((text for method, text in _BY_HAND.items() if isinstance(member, method)), None)
    by_hand = f", or {line.format(strength=float(member.get_buffer('strength')))}" if line else ""
    raise UserError(
        f"{name} needs {reason}, which only your training_step has. {way_out}Train with reglab.fit or `reglab train`, "
        f"where it works{by_hand}"
    )


def check_loss_members(trainer: pl.Trainer, module: pl.LightningModule, cocktail: Cocktail, unpack: Unpack) -> None:
    """Raise UserError where members that act on the loss, or take a second gradient, cannot see how
    a step is made.
    """
    changing = [
        name for name, it in cocktail.named_regularizers() if overrides(it, "on_objective") and it.reads == "batch"
    ]
    if changing and unpack is not inputs_and_targets:
        raise UserError(f"{changing[0]} changes batches of (inputs, targets) alone, which unpack= makes of others")
    if changing and cocktail.wraps_gradient:
        raise UserError(f"{changing[0]} changes the batch, of which loss= and its second gradient know nothing")
    for name, member in cocktail.named_regularizers():
        on_loss, second = overrides(member, "on_objective"), overrides(member, "on_gradient")
        if (on_loss or second) and not module.automatic_optimization:
            raise UserError(f"{name} needs the loss of a step, which only automatic optimization hands over")
        if on_loss and member.reads == "loss" and trainer.accumulate_grad_batches > 1:
            raise UserError(
                f"{name} needs the loss of the whole step before its first batch is differentiated; use larger "
                "batches, not accumulate_grad_batches"
            )
        if second and getattr(trainer.precision_plugin, "scaler", None) is not None:
            raise UserError(f"{name} does not work with a gradient scaler; use Trainer(precision='bf16-mixed')")


def check_strategy(trainer: pl.Trainer) -> None:
    """Raise UserError where weights may not be whole on each device, nor sharded by FSDP2."""
    strategy = trainer.strategy
    known = is_lightning(strategy, SingleDeviceStrategy, DDPStrategy, ModelParallelStrategy)
    if not known or is_lightning(strategy, DeepSpeedStrategy):
        raise UserError(
            f"Regularize does not know how {type(strategy).__name__} keeps weights; use one device, "
            "Trainer(strategy='ddp'), or ModelParallelStrategy() with fully_shard in configure_model"
        )


def check_sharded(cocktail: Cocktail, parameters: LocalParameters, which: int | str | None) -> None:
    """Raise UserError for what needs whole weights, where each device has a shard of them.

    Args:
        cocktail: The regularizers.
        parameters: Of the module.
        which: The optimizer that a user named.
    """
    if parameters.shards is None:
        return
    if cocktail.wraps_gradient:
        name = next(name for name, member in cocktail.named_regularizers() if overrides(member, "on_gradient"))
        raise UserError(
            f"{name} takes a gradient at other weights, which are sharded here; use Trainer(strategy='ddp'), or "
            "`reglab train trainer=fsdp`, which shards them itself"
        )
    if which is not None:
        raise UserError(f"optimizer={which!r} follows one of several optimizers of whole weights; use strategy='ddp'")


def followed_optimizer(trainer: pl.Trainer, module: pl.LightningModule, which: int | str | None) -> Optimizer:
    """Return the optimizer whose steps are followed.

    Args:
        trainer: During a fit.
        module: That is trained.
        which: Its number in what ``configure_optimizers`` gives, or the name of a part of the
            module whose weights it holds; None where there is one.

    Raises:
        UserError: If it is not there or not said, if it evaluates the loss several times a step
            (LBFGS), or if it unscales gradients inside its step (fused, under a gradient scaler),
            where nothing can be added to them.
    """
    optimizer = _only(trainer, module) if which is None else _named(trainer, module, which)
    check_kind(optimizer)
    scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
    if scaled and getattr(optimizer, "_step_supports_amp_scaling", False):
        raise UserError(
            f"{type(optimizer).__name__}(fused=True) unscales gradients inside its step, so no penalty can be added; "
            "use fused=False or Trainer(precision='bf16-mixed')"
        )
    return optimizer


def check_kind(optimizer: Optimizer) -> None:
    """Raise UserError for an optimizer that a loop of the user's cannot be regularized under."""
    if isinstance(optimizer, LBFGS):
        raise UserError("LBFGS evaluates the loss several times a step and compares the values; use SGD, Adam or AdamW")
    if needs_average(optimizer):
        raise UserError(
            "ScheduleFree takes its gradients and averages where reglab trains (reglab train, reglab.fit): in a loop "
            "of your own use AdamW with reglab.EMA"
        )


def _only(trainer: pl.Trainer, module: pl.LightningModule) -> Optimizer:
    weight_ids = {id(weight) for weight in module.parameters()}
    optimizers = [optimizer for optimizer in _optimizers(trainer) if not weight_ids.isdisjoint(_held(optimizer))]
    if len(optimizers) == 1:
        return optimizers[0]
    way_out = "give all weights to one optimizer (parameter groups may differ in options)"
    if optimizers:
        way_out = "say whose: Regularize(..., optimizer=0), or optimizer='generator', a part of the module"
    raise UserError(
        f"regularizers follow the steps of one optimizer, and {type(module).__name__}.configure_optimizers gives "
        f"{len(optimizers)}; {way_out}, or measure only: Regularize([], task=...)"
    )


def _named(trainer: pl.Trainer, module: pl.LightningModule, which: int | str) -> Optimizer:
    optimizers = _optimizers(trainer)
    if isinstance(which, int):
        if 0 <= which < len(optimizers):
            return optimizers[which]
        raise UserError(
            f"optimizer={which}: {type(module).__name__}.configure_optimizers gives {len(optimizers)}, numbered from 0"
        )
    parts = dict(module.named_modules())
    if not which or which not in parts:
        names = [name for name, _ in module.named_children()]
        raise UserError(f"optimizer={which!r} is no part of {type(module).__name__}; {nearest(which, names)}")
    weight_ids = {id(weight) for weight in parts[which].parameters()}
    found = [optimizer for optimizer in optimizers if _held(optimizer) and _held(optimizer) <= weight_ids]
    if len(found) != 1:
        raise UserError(
            f"optimizer={which!r}: {len(found)} of the {len(optimizers)} optimizers hold weights of {which} alone; "
            "give its number in what configure_optimizers gives, optimizer=0"
        )
    return found[0]


def _optimizers(trainer: pl.Trainer) -> list[Optimizer]:
    return [optimizer for optimizer in trainer.optimizers if isinstance(optimizer, Optimizer)]


def _held(optimizer: Optimizer) -> set[int]:
    return {id(weight) for group in optimizer.param_groups for weight in group["params"]}
