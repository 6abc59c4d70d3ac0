"""Optimizer, learning rate schedule, gradient clipping and batch size of a job."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch.optim
from torch import Tensor, nn
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from reglab.config.instantiate import construct, locate
from reglab.config.leaves import leaves
from reglab.core.errors import UserError, nearest
from reglab.core.secrets import hide
from reglab.optimizers.lion import Lion
from reglab.optimizers.muon import Muon
from reglab.optimizers.schedule_free import ScheduleFree
from reglab.regularizers.weight_average import WeightAverage
from reglab.training.optimizer_average import OptimizerAverage, ScheduleFreeAverage
from reglab.training.optimizer_checks import check_arguments
from reglab.training.param_groups import arranged, check_settings, frozen_names, optimizer_arguments, param_groups
from reglab.training.schedule import Schedule, build_schedule


@dataclass(frozen=True)
class Recipe:
    """How the weights are updated: optimizer, schedule, clipping, batch size, epochs.

    Args:
        optimizer, scheduler: Config nodes with a ``_target_`` (no scheduler if empty).
        clip: The largest gradient norm.
        batch_size: Rows of an optimizer step, on all ranks together.
        steps_per_batch: Optimizer steps in a Lightning batch.
        epochs: The budget, which a schedule over the whole run is stretched over.
        min_epochs: Before which no regularizer stops training.
        limit: Optimizer steps of an epoch, at most; None: all that its rows give.
        steps: Optimizer steps in all, where they end inside an epoch.
        monitor: The metric by which a plateau is found.
    """

    optimizer: Mapping[str, Any]
    scheduler: Mapping[str, Any] = field(default_factory=dict)
    clip: float | None = None
    batch_size: int = 32
    steps_per_batch: int = 32
    epochs: int = 50
    min_epochs: int = 0
    limit: int | None = None
    steps: int | None = None
    monitor: str = "val/loss"

    def __post_init__(self) -> None:
        for name, value in (
            ("data.batch_size", self.batch_size),
            ("trainer.steps_per_batch", self.steps_per_batch),
            ("trainer.max_epochs", self.epochs),
        ):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise UserError(f"{name} must be an integer >= 1, got {value}")
        if self.clip is not None and not (_is_number(self.clip) and self.clip > 0):
            raise UserError(f"trainer.gradient_clip_norm must be null or > 0, got {self.clip}")
        for node, key in ((self.optimizer, "optimizer"), (self.scheduler, "scheduler")):
            for name, value in leaves(node, key):
                if hide(str(value)) != str(value):
                    raise UserError(
                        f"{name} holds the value of an environment variable that may be a secret, and checkpoints "
                        "would keep it: write it out, or give another one"
                    )
        lr = self.optimizer.get("lr")
        if lr is not None and not (_is_number(lr) and lr > 0):
            raise UserError(f"optimizer.lr must be > 0, got {lr!r}")

    def build_optimizer(self, model: nn.Module, weights: Mapping[str, Tensor] | None = None) -> Optimizer:
        """Return the optimizer, in the param groups that the config names.

        Args:
            model: Whose weights are trained.
            weights: What is updated in their place, by name, such as shards; None: stand-ins
                without memory.

        Raises:
            UserError: For an optimizer that cannot be built, or does not fit.
        """
        if not self.optimizer:
            raise UserError(
                "optimizer=own is that of a LightningModule (model=lightning): choose adam, adamw, sgd, ..."
            )
        weights = stand_ins(model) if weights is None else weights
        arguments = optimizer_arguments(self.optimizer)
        groups = param_groups(self.optimizer, model)
        rate = arguments.get("lr", _default_rate(arguments))
        plain = {name: value for name, value in arguments.items() if name != "_target_"}
        cls = _class_of(arguments)
        check_arguments(cls, plain, weights)
        made = {**plain, "params": arranged(groups, weights, rate)}
        try:
            optimizer = construct(cls, made, "optimizer")
        except (RuntimeError, LookupError, NotImplementedError, ImportError) as error:
            raise UserError(f"optimizer: {cls.__name__} cannot be built of the model's weights ({error})") from error
        check_settings(groups, optimizer, plain)
        _check_momentum(optimizer)
        return optimizer

    def average(self) -> WeightAverage | None:
        """Return what keeps the average that the optimizer's model is; None where it is the weights.

        Raises:
            UserError: For an unknown class, and for a number that the average does not take.
        """
        if not self.optimizer:
            return None
        cls = _class_of(self.optimizer)
        if issubclass(cls, ScheduleFree):
            try:
                return ScheduleFreeAverage(**{key: self.optimizer[key] for key in ("beta",) if key in self.optimizer})
            except ValueError as error:
                raise UserError(f"optimizer.{error}") from error
        return OptimizerAverage() if hasattr(cls, "train") and hasattr(cls, "eval") else None

    def freeze(self, model: nn.Module) -> None:
        """Freeze the weights that the optimizer's param groups say are to stay as they are."""
        for name in frozen_names(self.optimizer, model):
            model.get_parameter(name).requires_grad_(False)

    def build_schedule(self, optimizer: Optimizer, steps_per_epoch: int) -> Schedule | None:
        """Return the learning rate schedule, if there is one."""
        steps = self.steps or self.epochs * steps_per_epoch
        return build_schedule(self.scheduler, optimizer, steps, self.epochs, self.monitor)


def stand_ins(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return parameters in the shapes of a model's trained weights, without memory."""
    return {
        name: nn.Parameter(torch.zeros((), dtype=weight.dtype).expand(weight.shape))
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }


def _check_momentum(optimizer: Optimizer) -> None:
    for group in optimizer.param_groups:
        momentum = group.get("momentum", 0.0)
        if not (_is_number(momentum) and 0 <= momentum < 1):
            raise UserError(f"optimizer.momentum must be >= 0 and < 1, got {momentum}")


def _class_of(node: Mapping[str, Any]) -> type[Optimizer]:
    return locate(node.get("_target_"), Optimizer, "optimizer")


def _default_rate(arguments: Mapping[str, Any]) -> float | None:
    try:
        parameter = inspect.signature(_class_of(arguments)).parameters.get("lr")
    except ValueError:
        return None
    return None if parameter is None or not _is_number(parameter.default) else parameter.default


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def optimizer_config(
    optimizer: str | Mapping[str, Any], lr: float | Literal["default"] | None = "default"
) -> dict[str, Any]:
    """Return the config node of an optimizer.

    Args:
        optimizer: Its name in ``torch.optim``, in any case, ``lion``, ``muon`` or
            ``schedule_free``, or a mapping of ``_target_`` and arguments.
        lr: The learning rate; None: the optimizer's own default; ``default``: 1e-3 of one that is
            given by its name, and that of the mapping.

    Raises:
        UserError: For an unknown name, and for two learning rates.
    """
    if not isinstance(optimizer, str):
        if not isinstance(optimizer, Mapping) or "_target_" not in optimizer:
            raise UserError(
                f"optimizer={optimizer!r}: give a name of torch.optim, such as 'adam', or a mapping such as "
                "{'_target_': 'torch.optim.SGD', 'lr': 0.1, 'momentum': 0.9}"
            )
        if lr in ("default", None):
            return dict(optimizer)
        if optimizer.get("lr", lr) != lr:
            raise UserError(f"lr={lr} and optimizer={{..., 'lr': {optimizer['lr']}}} differ: give one of them")
        return {**optimizer, "lr": lr}
    names = {
        name.lower(): f"torch.optim.{name}" for name, member in vars(torch.optim).items() if inspect.isclass(member)
    }
    names |= {f"{each.__name__}".lower(): f"{each.__module__}.{each.__name__}" for each in (Lion, Muon, ScheduleFree)}
    name = optimizer.lower().replace("_", "")
    if name not in names:
        raise UserError(f"optimizer={optimizer!r} is not in torch.optim; {nearest(name, names)}")
    rate = 1e-3 if lr == "default" else lr
    return {"_target_": names[name], **({} if rate is None else {"lr": rate})}


def scheduler_config(scheduler: str | Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the config node of a learning rate schedule.

    Args:
        scheduler: The name of a class in ``torch.optim.lr_scheduler``, in any case, that needs no
            argument but the length of the run; or a mapping of ``_target_``, arguments and
            ``interval`` (``step`` or ``epoch``); None: none.

    Raises:
        UserError: For anything else.
    """
    if scheduler is None:
        return {}
    if isinstance(scheduler, Mapping) and "_target_" in scheduler:
        return dict(scheduler)
    classes = [member for member in vars(lr_scheduler).values() if inspect.isclass(member)]
    known = {
        member.__name__.lower(): member.__name__
        for member in classes
        if issubclass(member, LRScheduler) and member is not LRScheduler and not member.__name__.startswith("_")
    }
    if not isinstance(scheduler, str) or scheduler.lower() not in known:
        hint = nearest(str(scheduler), known.values()) if isinstance(scheduler, str) else "give its name"
        raise UserError(
            f"scheduler={scheduler!r} is no class of torch.optim.lr_scheduler, and no mapping with _target_; {hint}"
        )
    return {"_target_": f"torch.optim.lr_scheduler.{known[scheduler.lower()]}"}
