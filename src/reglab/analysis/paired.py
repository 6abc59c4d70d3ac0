"""Paired differences between two settings, standard errors over examples and seeds crossed.

All settings of a sweep share rows, seeds and folds, so what an easy example or a lucky seed adds to
both sides cancels in their difference, whose standard error is therefore smaller than that of
either mean.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Scored:
    """What the runs of one setting reached on one split, as numbers to be minimized.

    Attributes:
        repeats: What identifies each run, such as its seed, ``[runs]``.
        rows: The validation rows' indices, ``[rows]``: what is paired must have the same.
        values: The monitored value of each run, ``[runs]``.
        noise: ``[runs, rows]``: the terms of each row whose mean the value is. Or ``[runs,
            columns]`` whose variance is that of the value itself, where it is made of several
            samples of rows.
        unit_variance: Whether ``noise`` is the latter.
    """

    repeats: tuple[Hashable, ...]
    rows: NDArray[np.int64]
    values: Array
    noise: Array
    unit_variance: bool = False

    def take(self, repeats: Sequence[Hashable]) -> "Scored":
        """Return the runs identified by ``repeats``, in their order."""
        indices = [self.repeats.index(repeat) for repeat in repeats]
        return Scored(tuple(repeats), self.rows, self.values[indices], self.noise[indices], self.unit_variance)

    @property
    def spread(self) -> float:
        """The factor from the variance of ``noise`` to that of the value: 1 / rows, or 1."""
        return 1.0 if self.unit_variance else 1.0 / len(self.rows)


@dataclass(frozen=True)
class Difference:
    """A mean difference with its standard error and degrees of freedom.

    Attributes:
        mean: Of the first setting minus the second.
        error: Its standard error.
        freedom: Degrees of freedom of ``error``, by Satterthwaite.
        seeds: How many repeats it is taken over; with 1 the error covers only the examples.
    """

    mean: float
    error: float
    freedom: float
    seeds: int

    @property
    def t(self) -> float:
        """The mean in units of its error; 0 where both sides are equal."""
        if self.error > 0:
            return self.mean / self.error
        return math.copysign(math.inf, self.mean) if self.mean else 0.0

    @property
    def p(self) -> float:
        """The two-sided p-value by Student's t."""
        return 2 * float(stdtr(self.freedom, -abs(self.t))) if math.isfinite(self.t) else 0.0

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the ends of the interval at ``level`` by Student's t."""
        half = self.error * float(stdtrit(self.freedom, 0.5 + level / 2)) if self.error else 0.0
        return self.mean - half, self.mean + half


Splits = Mapping[Hashable, Scored]
"""What a setting reached on each split (split seed, fold)."""


def difference(first: Splits, second: Splits) -> Difference | None:
    """Return ``first - second``.

    One split, d the difference ``[seeds, rows]`` of runs that share a seed:

    ``SE^2 = var over rows of (mean of d over seeds) / rows + var over seeds of (mean d) / seeds``

    Settings without a common seed are paired over the rows alone, and each side's variance between
    seeds is added. Several splits: ``SE^2 = var over splits of (mean of d) / splits``, which
    contains the noise of rows and of seeds.

    Args:
        first: What a setting reached on each split.
        second: The same of another one.

    Returns:
        The difference; None where they have no rows in common.

    Source: Owen (2007), The pigeonhole bootstrap, for the variance of crossed random effects;
    Bengio & Grandvalet (2004) for folds.
    """
    shared = [split for split in first if split in second and np.array_equal(first[split].rows, second[split].rows)]
    if not shared:
        return None
    if len(shared) == 1:
        return _crossed(first[shared[0]], second[shared[0]])
    each = [_crossed(first[split], second[split]) for split in shared]
    means = np.array([one.mean for one in each])
    error = math.sqrt(means.var(ddof=1) / len(means))
    return Difference(float(means.mean()), error, len(means) - 1.0, sum(one.seeds for one in each))


def over_rows(first: Splits, second: Splits) -> Difference | None:
    """Return ``first - second`` with its error over rows alone: a constant predictor has no seed.

    Splits are independent samples of rows: ``SE^2 = sum over splits of var(d) / rows / splits^2``.

    Args:
        first: What a setting reached on each split.
        second: The same of a predictor without seeds.

    Returns:
        The difference; None where the rows differ.
    """
    means, parts = [], []
    for split, one in first.items():
        other = second.get(split)
        if other is None or not np.array_equal(one.rows, other.rows):
            return None
        noise = one.noise.mean(0) - other.noise.mean(0)
        parts.append((float(noise.var(ddof=1)) * one.spread / len(first) ** 2, len(noise) - 1.0))
        means.append(float(one.values.mean() - other.values.mean()))
    return _difference(sum(means) / len(means), parts, min(len(one.repeats) for one in first.values()))


def aligned(first: Scored, second: Scored) -> tuple[Scored, Scored, bool]:
    """Return both with their common repeats, in one order, and whether they have any."""
    common = [repeat for repeat in first.repeats if repeat in second.repeats]
    return (first.take(common), second.take(common), True) if common else (first, second, False)


def _crossed(first: Scored, second: Scored) -> Difference:
    first, second, paired = aligned(first, second)
    noise = first.noise.mean(0) - second.noise.mean(0)
    parts = [(float(noise.var(ddof=1)) * first.spread, len(first.rows) - 1.0)]
    if paired:
        parts += _between(first.values - second.values)
    else:
        parts += _between(first.values) + _between(second.values)
    seeds = min(len(first.repeats), len(second.repeats))
    return _difference(float(first.values.mean() - second.values.mean()), parts, seeds)


def _between(values: Array) -> list[tuple[float, float]]:
    """Return squared error and degrees of freedom of a mean of values; nothing for one value."""
    return [(float(values.var(ddof=1)) / len(values), len(values) - 1.0)] if len(values) > 1 else []


def _difference(mean: float, parts: Sequence[tuple[float, float]], seeds: int) -> Difference:
    total = sum(square for square, _ in parts)
    weighed = sum(square**2 / freedom for square, freedom in parts)
    return Difference(mean, math.sqrt(total), total**2 / weighed if weighed else math.inf, seeds)


def summed(first: Difference, second: Difference) -> Difference:
    """Return the sum of two differences whose errors are independent."""
    parts = [(one.error**2, one.freedom) for one in (first, second)]
    return _difference(first.mean + second.mean, parts, min(first.seeds, second.seeds))
