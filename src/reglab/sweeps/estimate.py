"""What several runs of one setting say together: mean, spread between runs, standard error, interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from scipy.special import stdtrit


@dataclass(frozen=True)
class Estimate:
    """Mean of a metric over runs, its standard deviation between runs and the mean's standard error.

    deviation: NaN with one run, where nothing is known about it.
    """

    mean: float
    deviation: float
    error: float


def estimate(values: Sequence[float], example_errors: Sequence[float] = (), splits: int = 1) -> Estimate:
    """Return mean and standard error over runs that were evaluated on shared examples.

    ``SE^2 = mean over runs of (example SE)^2 / splits  +  variance between runs / runs``

    Runs of one split are evaluated on the same examples, so the noise of having just these examples is common to
    them and does not average out over seeds; only different splits (folds) average it.

    values: the metric of each run. example_errors: its standard error over the examples, of each run; empty where
    unknown (then the error speaks of seeds only). splits: number of different validation parts among the runs.
    Raises ``ValueError`` without values.
    """
    if not values:
        raise ValueError("an estimate needs the value of at least one run")
    between = variance(values) if len(values) > 1 else math.nan
    example = fmean(e * e for e in example_errors) / splits if example_errors else 0.0
    seeds = between / len(values) if len(values) > 1 else 0.0
    return Estimate(fmean(values), math.sqrt(between), math.sqrt(example + seeds))


@dataclass(frozen=True)
class Interval:
    """A mean with the ends of its interval; both ends are NaN where no run gave an interval."""

    mean: float
    low: float
    high: float


def joint_interval(
    values: Sequence[float], lows: Sequence[float], highs: Sequence[float], splits: int = 1, level: float = 0.95
) -> Interval:
    """Return the mean over runs with an interval that holds both example noise and seed noise.

    ``low = mean - sqrt( mean over runs of (value - low)^2 / splits + t^2 * variance between runs / runs )``

    and ``high`` likewise: the root of summed squares keeps each side's own width (a bootstrap interval is not
    symmetric); t is Student's quantile with runs - 1 degrees of freedom at ``level``, which must be that of the runs'
    intervals. With one run it is that run's own interval.
    """
    mean, runs = fmean(values), len(values)
    if len(lows) != runs or len(highs) != runs:
        return Interval(mean, math.nan, math.nan)
    seeds = 0.0
    if runs > 1:
        quantile = float(stdtrit(runs - 1, 0.5 + level / 2))
        seeds = quantile**2 * variance(values) / runs
    below = fmean((v - low) ** 2 for v, low in zip(values, lows, strict=True)) / splits
    above = fmean((high - v) ** 2 for v, high in zip(values, highs, strict=True)) / splits
    return Interval(mean, mean - math.sqrt(below + seeds), mean + math.sqrt(above + seeds))
