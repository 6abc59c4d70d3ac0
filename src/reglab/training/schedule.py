"""The learning rate schedule of a job: built from its config, advanced by step, epoch or metric."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ChainedScheduler, LRScheduler, ReduceLROnPlateau, SequentialLR

from reglab.config.instantiate import build, construct, locate
from reglab.config.schedule_length import filled_in
from reglab.core.errors import UserError
from reglab.core.metric_direction import lower_is_better

Interval = Literal["step", "epoch"]
KEY = "scheduler"
_TRIED = 300  # moves of a schedule
_LEAST = {"patience": 0, "step_size": 1, "T_max": 1, "total_iters": 1, "cooldown": 0}
_CYCLING = ("OneCycleLR", "CyclicLR")  # move the momentum too, where the optimizer has one


@dataclass(frozen=True)
class Schedule:
    """A scheduler of torch and when it moves.

    Args:
        scheduler: That changes the optimizer's learning rates.
        interval: After each step or epoch.
        monitor: The metric that decides instead, at each measurement; empty: none.
    """

    scheduler: LRScheduler
    interval: Interval = "epoch"
    monitor: str = ""

    def advance(self, inside_epoch: bool) -> None:
        """Move behind a step, inside an epoch or at its end."""
        if not self.monitor and (self.interval == "step" or not inside_epoch):
            self.scheduler.step()

    def observe(self, metrics: Mapping[str, Tensor | float]) -> None:
        """Move by the metrics of a measured epoch."""
        if not self.monitor:
            return
        if self.monitor not in metrics:
            raise UserError(f"scheduler.monitor={self.monitor} is not measured in training; take measure.monitor")
        self.scheduler.step(float(metrics[self.monitor]))  # type: ignore[arg-type]  # of ReduceLROnPlateau


def check_rates(schedule: Schedule, optimizer: Optimizer, steps: int, steps_per_epoch: int) -> None:
    """Try a schedule, and raise UserError where it fails, or a learning rate is none.

    Args:
        schedule: Of the optimizer; it is used up.
        optimizer: Of stand-ins for the weights.
        steps: Of the run, of which the first are tried.
        steps_per_epoch: In an epoch.
    """
    by_step = schedule.interval == "step" and not schedule.monitor
    moves = min(steps if by_step else max(1, steps // steps_per_epoch), _TRIED)
    for move in range(1, moves):
        optimizer.step()
        try:
            schedule.advance(inside_epoch=by_step)
            schedule.observe({schedule.monitor: 1.0} if schedule.monitor else {})
        except (ArithmeticError, TypeError, ValueError) as error:
            raise UserError(f"{KEY}: {error} after {move} {schedule.interval}s: correct its numbers") from error
        for rate in (float(group["lr"]) for group in optimizer.param_groups):
            if not 0 <= rate < float("inf"):
                raise UserError(
                    f"{KEY}: the learning rate would be {rate:g} after {move} {schedule.interval}s: correct its numbers"
                )


def build_schedule(
    node: Mapping[str, Any], optimizer: Optimizer, steps: int, epochs: int, monitor: str
) -> Schedule | None:
    """Return the schedule that a config node describes, None for an empty one.

    The length of a schedule that ends with the run is filled in. ``SequentialLR`` and
    ``ChainedScheduler`` are made of the nodes in their list ``schedulers``.

    Args:
        node: ``_target_`` and arguments, ``interval`` and ``monitor`` among them.
        optimizer: Whose learning rates it changes.
        steps: Of the whole run.
        epochs: Of the whole run.
        monitor: The metric that a plateau is one of, unless the node says which.

    Raises:
        UserError: For what cannot be built.
    """
    arguments = dict(node)
    if not arguments:
        return None
    plateau = str(arguments.get("_target_", "")).endswith("ReduceLROnPlateau")
    if plateau and (taken := [name for name in ("interval",) if name in arguments]):
        raise UserError(f"scheduler.{taken[0]}: a plateau is looked for at each measured epoch; leave it out")
    if not plateau and "monitor" in arguments:
        raise UserError("scheduler.monitor is for ReduceLROnPlateau (scheduler=plateau); leave it out")
    interval = arguments.pop("interval", "epoch")
    if interval not in ("step", "epoch"):
        raise UserError(f"scheduler.interval must be step or epoch, got {interval}")
    if plateau:
        _check_counts(node, KEY)
        _check_floor(node.get("min_lr"), optimizer, f"{KEY}.min_lr")
        watched = str(arguments.pop("monitor", None) or monitor)
        mode = "min" if lower_is_better(watched) else "max"
        if arguments.setdefault("mode", mode) != mode:
            raise UserError(f"scheduler.mode={arguments['mode']}: of {watched} {mode} is better; leave it out")
        return Schedule(build(arguments, ReduceLROnPlateau, KEY, optimizer=optimizer), "epoch", watched)
    return Schedule(_scheduler(arguments, optimizer, steps if interval == "step" else epochs, KEY), interval)


def _scheduler(node: Mapping[str, Any], optimizer: Optimizer, length: int, key: str) -> LRScheduler:
    arguments = dict(node)
    _check_counts(node, key)
    _check_floor(node.get("eta_min"), optimizer, f"{key}.eta_min")
    if (name := filled_in(node)) is not None:
        arguments[name] = length
    if (given := arguments.get("total_steps")) is not None and given < length:
        raise UserError(
            f"{key}.total_steps={given}: the run has {length}; leave it out, and the schedule is as long as the run"
        )
    if "schedulers" in arguments:
        return _joined(arguments, optimizer, length, key)
    if str(node.get("_target_", "")).endswith(_CYCLING):
        moved = optimizer.param_groups[0]
        arguments.setdefault("cycle_momentum", bool(moved.get("momentum") or "betas" in moved))
    for name in ("max_lr", "base_lr"):
        if isinstance(arguments.get(name), int | float):
            arguments[name] = _by_group(arguments[name], optimizer)
    return build(arguments, LRScheduler, key, optimizer=optimizer)


def _check_counts(node: Mapping[str, Any], key: str) -> None:
    for name, least in _LEAST.items():
        value = node.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
            raise UserError(f"{key}.{name} must be a whole number >= {least}, got {value}")
    for name in ("max_lr", "base_lr"):
        values = node.get(name, 1.0)
        for value in values if isinstance(values, Sequence) and not isinstance(values, str) else [values]:
            if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
                raise UserError(f"{key}.{name} must be > 0, got {value}")


def _check_floor(floor: object, optimizer: Optimizer, key: str) -> None:
    """Refuse a least learning rate that is above one of the optimizer's: the schedule would lead up."""
    least = min(float(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups)
    if isinstance(floor, int | float) and floor > least:
        of = "optimizer.lr" if len(optimizer.param_groups) == 1 else "the learning rate of a param group"
        raise UserError(f"{key}={floor:g} is above {of}, {least:g}, and the schedule would raise it: give less")


def _by_group(rate: float, optimizer: Optimizer) -> float | list[float]:
    """Return a learning rate for each param group, in the ratio that theirs have."""
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    return rate if len(rates) == 1 else [rate * each / rates[-1] for each in rates]


def _joined(arguments: dict[str, Any], optimizer: Optimizer, length: int, key: str) -> LRScheduler:
    """Return several schedulers one after the other, or at once."""
    parts = arguments.pop("schedulers")
    if not isinstance(parts, Sequence) or not all(isinstance(part, Mapping) for part in parts) or not parts:
        raise UserError(f"{key}.schedulers must be a list of schedulers, each with a _target_")
    for number, part in enumerate(parts):
        for name in ("interval", "monitor"):
            if name in part:
                raise UserError(f"{key}.schedulers.{number}.{name}: all of them move together; leave it out")
    cls = locate(arguments.pop("_target_", None), LRScheduler, key)
    lengths = [length] * len(parts)
    if issubclass(cls, SequentialLR):
        milestones = [round(length * each) if isinstance(each, float) and each < 1 else int(each)
                      for each in arguments.get("milestones") or ()]  # fmt: skip
        if len(milestones) != len(parts) - 1 or milestones != sorted(milestones):
            raise UserError(f"{key}.milestones must be {len(parts) - 1} rising steps, or shares of the run below 1")
        arguments["milestones"] = milestones
        lengths = [max(1, end - begin) for begin, end in pairwise([0, *milestones, max(length, *milestones, 1)])]
    elif not issubclass(cls, ChainedScheduler):
        raise UserError(f"{key}.schedulers is for SequentialLR and ChainedScheduler")
    made = [
        _scheduler(part, optimizer, each, f"{key}.schedulers.{number}")
        for number, (part, each) in enumerate(zip(parts, lengths, strict=True))
    ]
    return construct(cls, {**arguments, "schedulers": made, "optimizer": optimizer}, key)
