"""Checks of regularizers, strategy and optimizer for ``Regularize``."""

from collections.abc import Mapping, Sequence

import pytorch_lightning as pl
from pytorch_lightning.strategies import DDPStrategy, DeepSpeedStrategy, SingleDeviceStrategy
from torch.optim import LBFGS, Optimizer

from reglab.core.errors import UserError
from reglab.regularizers import Flooding, LabelSmoothing, Mixup, Regularizer, name_members, overrides
from reglab.training.lightning_packages import is_lightning

_BY_HAND: dict[type[Regularizer], str] = {
    LabelSmoothing: "write in training_step: loss = F.cross_entropy(outputs, targets, label_smoothing={strength:g})",
    Flooding: "write in training_step, before its return: loss = (loss - {strength:g}).abs() + {strength:g}",
    Mixup: (
        "write in training_step: share = torch.distributions.Beta({strength:g}, {strength:g}).sample(); "
        "order = torch.randperm(len(x), device=x.device); outputs = self(share * x + (1 - share) * x[order]); "
        "loss = share * F.cross_entropy(outputs, y) + (1 - share) * F.cross_entropy(outputs, y[order])"
    ),
}


def named_members(regularizers: Sequence[Regularizer] | Mapping[str, Regularizer]) -> dict[str, Regularizer]:
    """Return the members by name.

    Args:
        regularizers: A list, or a dict by name.

    Raises:
        UserError: For what is no regularizer, or needs the batch or the loss.
    """
    members = list(regularizers.values()) if isinstance(regularizers, Mapping) else regularizers
    if isinstance(members, Regularizer) or not all(isinstance(member, Regularizer) for member in members):
        raise UserError(f"Regularize takes a list or a dict of regularizers, such as [L1(1e-4)], got {regularizers!r}")
    named = dict(regularizers) if isinstance(regularizers, Mapping) else name_members(members)
    for name, member in named.items():
        _refuse_wrapper(name, member)
    return named


def _refuse_wrapper(name: str, member: Regularizer) -> None:
    if overrides(member, "on_gradient"):
        needs = "a second gradient at other weights for each step"
    elif overrides(member, "on_objective"):
        needs = "the batch and its loss"
    else:
        return
    line = next((text for method, text in _BY_HAND.items() if isinstance(member, method)), None)
    by_hand = f", or {line.format(strength=float(member.get_buffer('strength')))}" if line else ""
    raise UserError(
        f"{name} needs {needs}, which only your training_step has: a callback cannot give it. Train with reglab.fit or "
        f"`reglab train`, where it works{by_hand}"
    )


def check_strategy(trainer: pl.Trainer) -> None:
    """Raise UserError where weights are not whole on each device."""
    strategy = trainer.strategy
    if not is_lightning(strategy, SingleDeviceStrategy, DDPStrategy) or is_lightning(strategy, DeepSpeedStrategy):
        raise UserError(
            f"Regularize needs whole weights on each device, which {type(strategy).__name__} may not keep; use one "
            "device or Trainer(strategy='ddp')"
        )


def only_optimizer(trainer: pl.Trainer, module: pl.LightningModule) -> Optimizer:
    """Return the optimizer that trains ``module``.

    Args:
        trainer: During a fit.
        module: That is trained.

    Raises:
        UserError: If there is none or more than one, if it evaluates the loss several times a step
            (LBFGS), or if it unscales gradients inside its step (fused, under a gradient scaler),
            where nothing can be added to them.
    """
    weight_ids = {id(weight) for weight in module.parameters()}
    optimizers = [
        optimizer
        for optimizer in trainer.optimizers
        if isinstance(optimizer, Optimizer)
        and any(id(w) in weight_ids for g in optimizer.param_groups for w in g["params"])
    ]
    if len(optimizers) != 1:
        raise UserError(
            f"regularizers follow the steps of one optimizer, and {type(module).__name__}.configure_optimizers gives "
            f"{len(optimizers)}; give all weights to one optimizer (parameter groups may differ in options), or "
            "measure only: Regularize([], task=...)"
        )
    optimizer = optimizers[0]
    if isinstance(optimizer, LBFGS):
        raise UserError("LBFGS evaluates the loss several times a step and compares the values; use SGD, Adam or AdamW")
    scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
    if scaled and getattr(optimizer, "_step_supports_amp_scaling", False):
        raise UserError(
            f"{type(optimizer).__name__}(fused=True) unscales gradients inside its step, so no penalty can be added; "
            "use fused=False or Trainer(precision='bf16-mixed')"
        )
    return optimizer
