"""Mean, standard error and interval of a metric over several runs of one setting.

Runs of one split are measured on the same validation examples, so the sampling noise of these
examples is common to them and does not average out over seeds. Different splits (folds) have
different examples: the variance between them contains the noise of examples and of seeds. Splits
count as independent; but folds share most of their training examples and drawn splits also
validation examples, so with them the error is rather too small.

Source: Bengio, Grandvalet (2004), No unbiased estimator of the variance of k-fold cross-validation.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from scipy.special import stdtrit


@dataclass(frozen=True)
class Estimate:
    """A metric over runs.

    Attributes:
        mean: Over runs.
        deviation: Standard deviation between runs; NaN with one run.
        error: Standard error of the mean.
    """

    mean: float
    deviation: float
    error: float


def estimate(
    values: Sequence[float], example_errors: Sequence[float] = (), splits: Sequence[Hashable] = ()
) -> Estimate:
    """Return the mean over runs with its standard error.

    One split:  ``SE^2 = mean over runs of (example SE)^2  +  variance between runs / runs``

    Several:    ``SE^2 = variance between the splits' means / splits``, of the mean over their means

    Args:
        values: The metric of each run.
        example_errors: Its standard error over the examples, of each run; empty if unknown: then
            the error of one split covers only seeds.
        splits: Which split each run was measured on; empty: all on one.

    Raises:
        ValueError: There are no values.
    """
    if not values:
        raise ValueError("an estimate needs the value of at least one run")
    deviation = math.sqrt(variance(values)) if len(values) > 1 else math.nan
    means = _split_means(values, splits)
    error = _between(means) if len(means) > 1 else _between(values) + _mean_square(example_errors)
    return Estimate(fmean(means), deviation, math.sqrt(error))


@dataclass(frozen=True)
class Interval:
    """A mean with its interval.

    Attributes:
        mean: Over runs.
        low: The lower end; NaN where no run gave an interval.
        high: The upper end; NaN where no run gave an interval.
    """

    mean: float
    low: float
    high: float


def joint_interval(
    values: Sequence[float],
    lows: Sequence[float],
    highs: Sequence[float],
    splits: Sequence[Hashable] = (),
    level: float = 0.95,
) -> Interval:
    """Return the mean over runs with an interval that covers example noise and seed noise.

    One split: ``low = mean - sqrt( mean over runs of (value - low)^2 + t^2 * var of runs / runs )``

    Several:   ``low = mean - t * sqrt( variance between the splits' means / splits )``

    and ``high`` likewise: the root of summed squares keeps each side's own width (a bootstrap
    interval is not symmetric); t is Student's quantile with runs - 1, or splits - 1, degrees of
    freedom. With one run it is that run's own interval.

    Args:
        values: The metric of each run.
        lows: The lower end of its interval, of each run.
        highs: The upper end of its interval, of each run.
        splits: As for ``estimate``.
        level: That of the runs' intervals.
    """
    means = _split_means(values, splits)
    if len(lows) != len(values) or len(highs) != len(values):
        return Interval(fmean(means), math.nan, math.nan)
    repeats, below, above = means, 0.0, 0.0
    if len(means) == 1:
        repeats = list(values)
        below = _mean_square([value - low for value, low in zip(values, lows, strict=True)])
        above = _mean_square([high - value for value, high in zip(values, highs, strict=True)])
    quantile = float(stdtrit(len(repeats) - 1, 0.5 + level / 2)) if len(repeats) > 1 else 0.0
    noise = quantile**2 * _between(repeats)
    return Interval(fmean(means), fmean(means) - math.sqrt(below + noise), fmean(means) + math.sqrt(above + noise))


def _split_means(values: Sequence[float], splits: Sequence[Hashable]) -> list[float]:
    if not splits:
        return [fmean(values)]
    groups: dict[Hashable, list[float]] = {}
    for value, split in zip(values, splits, strict=True):
        groups.setdefault(split, []).append(value)
    return [fmean(group) for group in groups.values()]


def _between(values: Sequence[float]) -> float:
    """Return the squared standard error of a mean of independent values, 0 for a single one."""
    return variance(values) / len(values) if len(values) > 1 else 0.0


def _mean_square(values: Sequence[float]) -> float:
    return fmean(value * value for value in values) if values else 0.0
