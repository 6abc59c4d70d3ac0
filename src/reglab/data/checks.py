"""Validation of data options: return the typed value or raise with option, value and range."""

import math
from collections.abc import Sequence
from typing import Any

from reglab.core.errors import UserError, nearest


def whole(key: str, value: Any, minimum: int, maximum: int | None = None) -> int:
    """Return ``value``, a whole number from ``minimum`` to ``maximum``.

    Args:
        key: The option, for the message.
        value: What the user gave.
        minimum, maximum: The range, inclusive; maximum None: unbounded.

    Raises:
        UserError: If the value is outside the range or of the wrong type.
    """
    integral = isinstance(value, int) and not isinstance(value, bool)
    if not integral or value < minimum or (maximum is not None and value > maximum):
        bound = f">= {minimum}" if maximum is None else f"from {minimum} to {maximum}"
        raise UserError(f"data.{key} must be a whole number {bound}, got {value!r}")
    return int(value)


def number(key: str, value: Any, minimum: float, maximum: float = math.inf) -> float:
    """Return ``value`` as a finite number from ``minimum`` to ``maximum``.

    Args:
        key: The option, for the message.
        value: What the user gave.
        minimum, maximum: The range, inclusive.

    Raises:
        UserError: If the value is outside the range or of the wrong type.
    """
    numeric = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not numeric or not minimum <= value <= maximum:
        bound = f">= {minimum:g}" if maximum == math.inf else f"from {minimum:g} to {maximum:g}"
        raise UserError(f"data.{key} must be a finite number {bound}, got {value!r}")
    return float(value)


def size(key: str, value: Any) -> float:
    """Return a number of rows: a fraction in (0, 1], or a whole number above 1.

    1 and 1.0 are the same value and mean everything, as in the fingerprint of a run.

    Raises:
        UserError: If the value is outside the range or of the wrong type.
    """
    numeric = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not numeric or value <= 0 or (value > 1 and value != int(value)):
        raise UserError(f"data.{key} must be a fraction in (0, 1] or a whole number of rows, got {value!r}")
    return float(value)


def rows_of(share: float, rows: int) -> int:
    """Return the number of rows that ``share`` (see ``size``) means out of ``rows``."""
    return round(share * rows) if share <= 1 else int(share)


def padding(value: Any, tokens: bool) -> float | None:
    """Return the option ``pad``, a finite number or None.

    Args:
        value: What the user gave.
        tokens: Inputs are token ids, which nothing is done to.

    Raises:
        UserError: If it is none, and for tokens.
    """
    if value is None:
        return None
    if tokens:
        raise UserError(f"data.pad={value} has no effect on token ids, which are not standardized: leave it out")
    return number("pad", value, -math.inf)


def choice(key: str, value: Any, options: Sequence[str]) -> str:
    """Return ``value``, one of ``options``.

    Args:
        key: The option, for the message.
        value: What the user gave.
        options: The valid values.

    Raises:
        UserError: That names the nearest.
    """
    if value not in options:
        raise UserError(f"data.{key}={value}: {nearest(str(value), options)} (one of {', '.join(options)})")
    return str(value)


def flag(key: str, value: Any) -> bool:
    """Return ``value``, true or false.

    Raises:
        UserError: If the value is outside the range or of the wrong type.
    """
    if not isinstance(value, bool):
        raise UserError(f"data.{key} must be true or false, got {value!r}")
    return value
