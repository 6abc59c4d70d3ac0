"""Format numbers, intervals, percentages and metric names for tables and sentences."""

import math
from collections.abc import Sequence

from reglab.analysis.estimate import Interval

SIDES = {"val": "validation", "train": "training", "test": "test"}
SCORES = {"r2": "R²", "d2": "D²", "mean_iou": "mean IoU", "auroc": "AUROC", "f1": "F1", "mae": "MAE", "rmse": "RMSE"}


def number(value: float) -> str:
    """Return a number to three significant digits, or three decimals below ten; ``-`` for NaN."""
    if math.isnan(value):
        return "-"
    if value == 0 or 1e-3 <= abs(value) < 10:
        return f"{value:.3f}"
    if abs(value) < 1e-3:
        return compact(float(f"{value:.2g}"))
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.4g}"


def compact(value: float) -> str:
    """Return a setting's number in as few characters as possible: ``0.01``, ``3e-4``."""
    if value and abs(value) < 1e-3:
        digits, exponent = f"{value:.5e}".split("e")
        return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"
    return f"{value:g}"


def spread(mean: float, error: float) -> str:
    """Return ``mean ±error``, without the error if it is NaN."""
    return number(mean) if math.isnan(error) else f"{number(mean)} ±{number(error)}"


def bracket(interval: Interval) -> str:
    """Return ``mean [low, high]``, without the interval if it is NaN."""
    if math.isnan(interval.low):
        return number(interval.mean)
    ends = [f"{end:.3f}" if abs(end) < 1e-3 <= interval.high else number(end) for end in (interval.low, interval.high)]
    return f"{number(interval.mean)} [{', '.join(ends)}]".replace("-0.000", "0.000")


def percent(share: float) -> str:
    """Return a percentage that is 0% or 100% only where that is exact; ``-`` for NaN.

    Example:
        >>> percent(0.0349), percent(0.5)
        ('3.5%', '50.0%')
    """
    if math.isnan(share):
        return "-"
    if 0 < share < 0.001:
        return "<0.1%"
    if 0.999 < share < 1:
        return ">99.9%"
    digits = 0 if share in (0, 1) else 1
    return f"{100 * share:.{digits}f}%"


def shortened(label: str, limit: int) -> str:
    """Return a label cut to ``limit`` characters, ending in an ellipsis if it was cut."""
    return label if len(label) <= limit else f"{label[: limit - 1]}…"


def plural(count: int, noun: str) -> str:
    """Return ``1 run``, ``2 runs``.

    Example:
        >>> plural(1, "run"), plural(3, "run")
        ('1 run', '3 runs')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def listing(names: Sequence[str], limit: int = 4) -> str:
    """Return ``a, b and c``; beyond ``limit`` names the rest is counted.

    Example:
        >>> listing(["a", "b", "c", "d", "e", "f"])
        'a, b, c, d and 2 more'
    """
    shown = list(names[:limit]) + ([f"{len(names) - limit} more"] if len(names) > limit else [])
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown)


def metric_name(key: str) -> str:
    """Return a metric's name for readers: ``val/loss`` is validation loss, ``gap/r2`` gap in R²."""
    side, _, name = key.partition("/")
    name = SCORES.get(name, name.replace("_", " "))
    return f"gap in {name}" if side == "gap" else f"{SIDES.get(side, side)} {name}"
