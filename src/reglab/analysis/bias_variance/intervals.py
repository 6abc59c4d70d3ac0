"""Intervals of means over rows and runs: jackknife over what runs differ in, and over the rows."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from reglab.analysis.bias_variance.pairs import Factors, Floats, Integers, clusters
from reglab.core.errors import UserError

_FEWEST = 3  # levels of a factor, without one of which a statistic of pairs can still be computed


@dataclass(frozen=True)
class Number:
    """A mean over rows with its interval; NaN where there is none.

    Attributes:
        value: The estimate.
        low: The lower end.
        high: The upper end.
    """

    value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Estimates:
    """Estimates of each row, by name.

    Attributes:
        rows: From all runs, ``[rows]`` each.
        of: The same from the runs that are kept, bool ``[runs]``; without a correction of their bias.
    """

    rows: Mapping[str, Floats]
    of: Callable[[NDArray[np.bool_]], Mapping[str, Floats]]

    def minus(self, other: "Estimates") -> "Estimates":
        """Return the differences of the estimates to those of ``other``, from the same runs and rows."""
        return Estimates(_difference(self.rows, other.rows), lambda kept: _difference(self.of(kept), other.of(kept)))


def _difference(first: Mapping[str, Floats], second: Mapping[str, Floats]) -> dict[str, Floats]:
    return {name: first[name] - second[name] for name in first if name in second}


def numbers(
    estimates: Estimates,
    factors: Factors,
    weights: Floats | None,
    level: float,
    positive: frozenset[str] = frozenset(),
) -> dict[str, Number]:
    """Return the mean of each estimate over the rows, with an interval over runs and rows.

    ``SE^2 = sum over factors of (L - 1) / L * sum over the L levels of (mean without the level -
    their mean)^2  +  variance over rows / rows``, and Student's quantile with Satterthwaite's degrees
    of freedom. What a row's number owes to the runs is counted in both parts: the interval is rather
    too wide. That of a positive number is made on a logarithmic scale. There is none over factors of
    two levels.

    Args:
        estimates: By row.
        factors: What made runs differ, ``[runs]`` each; empty: an interval over the rows alone.
        weights: Of the rows, ``[rows]``; None: all 1.
        level: Of the interval, e.g. 0.95.
        positive: The names of those whose expectation is above 0.

    Source:
        Efron, Stein (1981), The jackknife estimate of variance; Satterthwaite (1946).
    """
    values = {name: float(np.average(each, weights=weights)) for name, each in estimates.rows.items()}
    parts = {name: [_over_rows(each, weights)] for name, each in estimates.rows.items()}
    for levels in clusters(factors).values():
        count = int(levels.max()) + 1
        left = _left_out(estimates, levels) if count >= _FEWEST else []
        for name in values:
            if not left or any(name not in each for each in left):  # few levels, or runs that are missing
                parts[name] = []
            if not parts[name]:
                continue
            without = np.array([np.average(each[name], weights=weights) for each in left])
            parts[name].append(((count - 1) * float(without.var()), count - 1))
    return {
        name: _interval(value, parts[name], level, name in positive) if parts[name] else Number(value)
        for name, value in values.items()
    }


def _left_out(estimates: Estimates, levels: Integers) -> list[Mapping[str, Floats]]:
    """Return the estimates without each level; none where one cannot be made."""
    try:
        return [estimates.of(levels != out) for out in range(int(levels.max()) + 1)]
    except UserError:
        return []


def _over_rows(values: Floats, weights: Floats | None) -> tuple[float, int]:
    """Return the squared standard error of the mean of independent rows, and degrees of freedom."""
    shares = np.full(len(values), 1 / len(values)) if weights is None else weights / weights.sum()
    error = shares * (values - shares @ values)
    return float(error @ error) * len(values) / max(len(values) - 1, 1), max(len(values) - 1, 1)


def _interval(value: float, parts: list[tuple[float, int]], level: float, positive: bool) -> Number:
    total = sum(part for part, _ in parts)
    if total == 0:
        return Number(value, value, value)
    freedom = 1 / sum((part / total) ** 2 / degrees for part, degrees in parts)
    half = float(stdtrit(freedom, 0.5 + level / 2)) * math.sqrt(total)
    if positive and value > 0:
        factor = math.exp(half / value) if half / value < 700 else math.inf
        return Number(value, value / factor, value * factor)
    return Number(value, value - half, value + half)
