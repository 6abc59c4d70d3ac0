"""Length of training: steps of an epoch, number of epochs, and a last epoch that ends early."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from reglab.core.errors import UserError
from reglab.training.loader import step_rows

KEYS = ("max_epochs", "min_epochs", "max_steps", "limit_train_batches")
_EPOCHS = 50  # of a job that gives neither epochs nor steps


class Length(NamedTuple):
    """How long a job trains.

    Args:
        epochs: The last one may end early.
        min_epochs: Before which no regularizer stops training.
        limit: Optimizer steps of an epoch; None: as many as its rows give.
        steps: Optimizer steps in all; None: as many as the epochs give.
    """

    epochs: int
    min_epochs: int = 0
    limit: int | None = None
    steps: int | None = None


def length_of(trainer: Mapping[str, Any], rows: int, batch_size: int, epochs_key: str = "trainer.max_epochs") -> Length:
    """Return the length that ``trainer`` asks for, in the words of Lightning.

    Args:
        trainer: The arguments in ``KEYS``, and ``accumulate_grad_batches``.
        rows: Of the training part.
        batch_size: Rows of a microbatch.
        epochs_key: How the user gives the number of epochs, for messages.

    Raises:
        UserError: For a length that is none, or that another argument cuts short.
    """
    accumulate = trainer.get("accumulate_grad_batches") or 1
    steps = max_steps(trainer)
    epochs = _integer(trainer.get("max_epochs", _EPOCHS), epochs_key, unlimited=-1)
    least = _integer(trainer.get("min_epochs"), "trainer.min_epochs") or 0
    if epochs is None and steps is None:
        raise UserError(f"{epochs_key}=null has no end: give trainer.max_steps, or a number of epochs")
    countable = rows and _is_count(batch_size) and _is_count(accumulate)  # otherwise refused where they are used
    whole = len(step_rows(torch.arange(rows), batch_size * accumulate)) if countable else 1
    limit = _limit(trainer.get("limit_train_batches"), whole, accumulate)
    per_epoch = whole if limit is None else limit
    if steps is not None:
        needed = -(-steps // per_epoch)
        if epochs is not None and epochs < needed:
            raise UserError(
                f"trainer.max_steps={steps} takes {needed} epochs of {per_epoch} steps, and "
                f"{epochs_key}={epochs} ends before: give {epochs_key}={needed} or null, or leave "
                "trainer.max_steps out"
            )
        epochs = needed
    assert epochs is not None
    if least > epochs:
        raise UserError(f"trainer.min_epochs={least} is more than training has, {epochs}: give a smaller number")
    return Length(epochs, least, limit, steps if steps is not None and steps % per_epoch else None)


def max_steps(trainer: Mapping[str, Any]) -> int | None:
    """Return ``trainer``'s limit of optimizer steps; None where it has none.

    Raises:
        UserError: For one that is no number of steps.
    """
    return _integer(trainer.get("max_steps"), "trainer.max_steps", unlimited=-1)


def take_length(trainer: dict[str, Any], rows: int, batch_size: int, epochs_key: str = "trainer.max_epochs") -> Length:
    """Return ``length_of``, and take its arguments out of ``trainer``.

    Args:
        trainer: The arguments, of which those in ``KEYS`` are removed.
        rows: Of the training part.
        batch_size: Rows of a microbatch.
        epochs_key: How the user gives the number of epochs, for messages.
    """
    length = length_of(trainer, rows, batch_size, epochs_key)
    for key in KEYS:
        trainer.pop(key, None)
    return length


def _limit(given: object, whole: int, accumulate: int) -> int | None:
    """Return the optimizer steps that ``limit_train_batches`` leaves of an epoch of ``whole``.

    As in Lightning an integer counts microbatches, and a fraction is of the epoch.
    """
    key = "trainer.limit_train_batches"
    if given is None or (isinstance(given, float) and given == 1.0):
        return None
    number = given if isinstance(given, (int, float)) and not isinstance(given, bool) else math.nan
    if not 0 < number < math.inf or (number > 1 and number % 1):
        raise UserError(f"{key}={given}: give a number of batches, or a fraction of an epoch between 0 and 1")
    if number < 1:
        if int(number * whole) < 1:
            raise UserError(
                f"{key}={given} of an epoch of {whole} steps is less than one: give 1, or a larger fraction"
            )
        return int(number * whole)
    if _is_count(accumulate) and number % accumulate:
        raise UserError(
            f"{key}={given} is no whole number of steps, each of trainer.accumulate_grad_batches={accumulate} "
            f"batches: give {-(-int(number) // accumulate) * accumulate}"
        )
    return min(int(number) // accumulate, whole)


def _integer(value: object, name: str, unlimited: int | None = None) -> int | None:
    if value is None or (unlimited is not None and value == unlimited):
        return None
    if not _is_count(value):
        raise UserError(f"{name} must be an integer >= 1, got {value}")
    assert isinstance(value, int)
    return value


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
