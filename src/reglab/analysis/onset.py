"""When overfitting began: the epoch from which on the validation loss rises, with an interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

LEAST_EPOCHS = 12  # in which a turn can be told from noise
_EACH_SIDE = 4  # epochs of each quadratic
_RESAMPLES = 199
_MOST = 60  # epochs that are looked at, evenly spaced

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Onset:
    """When overfitting began in a run.

    Attributes:
        seen: Whether the validation loss rises at the end by more than chance.
        epoch: From which on it rises; NaN if it does not.
        low: The lower end of the epoch's interval.
        high: The upper end.
        rise: By how much the loss rose to the last epoch; NaN if it does not.
        p: The share of curves that fall and stay, with this curve's noise, which seem to rise as
            clearly; 1 where it is lowest at the end; NaN below ``LEAST_EPOCHS`` epochs from where it
            first is as low as at the end, or of a loss that is not finite: nothing can be told.
    """

    seen: bool
    epoch: float = math.nan
    low: float = math.nan
    high: float = math.nan
    rise: float = math.nan
    p: float = math.nan


def onset(epochs: ArrayLike, losses: ArrayLike, level: float = 0.95) -> Onset:
    """Return when the validation loss of a run began to rise.

    A quadratic that only falls and one that only rises, or a line that rises and may end in a plateau,
    are fitted by least squares to the epochs from the first at which the loss is as low as at the
    end: what is before tells nothing of the turn. The onset is where they meet. It is seen where they fit
    better than a quadratic that falls and then stays, by more than such curves with the same noise
    let them. Its interval is the percentile one over refits, an epoch wider at each end. Noise is a
    first-order autoregression with the residuals' innovations.

    Args:
        epochs: ``[epochs]``, increasing.
        losses: ``[epochs]``, such as ``val/loss``.
        level: Of the interval; that the rise is none is rejected at ``1 - level``.

    Returns:
        The onset.

    Source:
        Muggeo (2003), Estimating regression models with unknown break-points; Bühlmann (1997), Sieve
        bootstrap for time series.
    """
    at, values = np.asarray(epochs, dtype=float), np.asarray(losses, dtype=float)
    if not np.isfinite(values).all():
        return Onset(False)
    if len(at) >= LEAST_EPOCHS and int(values.argmin()) >= len(at) - max(3, len(at) // 10):
        return Onset(False, p=1.0)  # lowest at the end
    at, values = _window(at, values)
    if len(at) < LEAST_EPOCHS:
        return Onset(False)
    generator, step = np.random.default_rng(0), float(np.diff(at).max())
    rising, staying = _Fits(at, rises=True), _Fits(at, rises=False)
    gain, fitted, knot, rise = _compared(rising, staying, values[None])
    if math.isnan(knot[0]):
        return Onset(False, p=1.0)
    # The noise is what the better fit leaves: what the other leaves holds the rise.
    drawn = staying.fit(values[None])[1][0] + _noise(values - fitted[0], 6, generator)
    p = float((1 + (_compared(rising, staying, drawn)[0] >= gain[0]).sum()) / (1 + _RESAMPLES))
    if p > 1 - level:
        return Onset(False, p=p)
    drawn = fitted[0] + _noise(values - fitted[0], 6, generator)
    knots = rising.fit(drawn)[2]
    low, high = np.nanquantile(knots, [(1 - level) / 2, (1 + level) / 2])
    low, high = min(low, knot[0]) - step, max(high, knot[0]) + step  # between epochs nothing is known
    return Onset(True, float(knot[0]), float(low), float(high), float(rise[0]), p)


@dataclass(frozen=True)
class OnsetOfRuns:
    """When overfitting began in several runs of one setting.

    Attributes:
        seen: In how many of them.
        runs: How many there are.
        told: In how many of them it can be told whether it began.
        epoch: The mean over those where it was seen; NaN where in none.
        low: The lower end of its interval: of one run its own, of several Student's over runs.
        high: The upper end.
    """

    seen: int
    runs: int
    told: int
    epoch: float = math.nan
    low: float = math.nan
    high: float = math.nan


def onset_of_runs(runs: Sequence[tuple[ArrayLike, ArrayLike]], level: float = 0.95) -> OnsetOfRuns:
    """Return when overfitting began in runs that differ in their seeds.

    Args:
        runs: Epochs and validation losses of each.
        level: Of the interval.
    """
    each = [onset(*run, level) for run in runs]
    seen = [found for found in each if found.seen]
    counts = len(seen), len(runs), sum(not math.isnan(found.p) for found in each)
    if len(seen) < 2:
        return OnsetOfRuns(*counts, seen[0].epoch, seen[0].low, seen[0].high) if seen else OnsetOfRuns(*counts)
    values = [found.epoch for found in seen]
    reach = float(stdtrit(len(values) - 1, (1 + level) / 2)) * stdev(values) / math.sqrt(len(values))
    return OnsetOfRuns(*counts, fmean(values), max(fmean(values) - reach, 0.0), fmean(values) + reach)


def _window(at: Array, values: Array) -> tuple[Array, Array]:
    """Return the epochs from the first at which the loss is as low as at the end, thinned out."""
    if not len(at):
        return at, values
    last = values[-max(3, len(values) // 10) :].mean()
    start = int(np.argmax(values <= last))
    kept = np.unique(np.linspace(start, len(at) - 1, min(_MOST, len(at) - start)).round().astype(int))
    return at[kept], values[kept]


class _Fits:
    """Least squares of a fall and a rise that meet, for every epoch at which they could.

    Args:
        at: Epochs.
        rises: The curve rises after it fell; else it stays.
    """

    def __init__(self, at: Array, rises: bool) -> None:
        self.at, self.rises = at, rises
        self.shapes: list[tuple[float, Array, Array, Array]] = []
        width = at[-1] - at[0]
        for knot in at[_EACH_SIDE:-_EACH_SIDE]:
            left, right = (np.maximum(side, 0.0) / width for side in (knot - at, at - knot))
            falling = [np.ones_like(at), left, left**2]
            # A rise may bend, or end early.
            rising = [[right, right**2], *([np.minimum(right, share * right[-1])] for share in (0.25, 0.5, 1.0))]
            for columns in rising if rises else [[]]:
                basis = np.stack([*falling, *columns], axis=1)
                # Of each side at its two ends: not negative where the curve only falls, and then only rises.
                ends = [(1, 0.0), (1, 2 * left[0]), *([(3, 0.0)] if columns else [])]
                ends += [(3, 2 * right[-1])] if len(columns) == 2 else []
                slopes = np.zeros((len(ends), basis.shape[1]))
                for row, (column, twice) in enumerate(ends):
                    slopes[row, column] = 1.0
                    if twice:
                        slopes[row, column + 1] = twice
                self.shapes.append((float(knot), basis, np.linalg.pinv(basis), slopes))
            # Of a fall too steep for that, in few epochs.
            steep = np.stack([np.ones_like(at), left**2, *([right] if rises else [])], axis=1)
            self.shapes.append((float(knot), steep, np.linalg.pinv(steep), np.eye(steep.shape[1])[1:]))

    def fit(self, curves: Array) -> tuple[Array, Array, Array, Array]:
        """Return squared errors, fitted curves, where the sides meet and the rise, of each of the
        ``[curves, epochs]``. A curve that no such fit suits is its mean, and turns nowhere.
        """
        mean = curves.mean(1, keepdims=True)
        errors, knots = ((curves - mean) ** 2).sum(1), np.full(len(curves), np.nan)
        fitted, rise = np.repeat(mean, curves.shape[1], axis=1), np.full(len(curves), np.nan)
        for knot, basis, inverse, slopes in self.shapes:
            found = curves @ inverse.T
            own = found @ basis.T
            squares = ((curves - own) ** 2).sum(1)
            better = (squares < errors) & (found @ slopes.T >= 0).all(1)
            errors, knots = np.where(better, squares, errors), np.where(better, knot, knots)
            fitted = np.where(better[:, None], own, fitted)
            if self.rises:
                rise = np.where(better, own[:, -1] - found[:, 0], rise)
        return errors, fitted, knots, rise


def _compared(rising: _Fits, staying: _Fits, curves: Array) -> tuple[Array, Array, Array, Array]:
    """Return by which factor a rise lessens the squared error, and its fit."""
    errors, fitted, knots, rise = rising.fit(curves)
    least = staying.fit(curves)[0]
    errors = np.where(np.isnan(knots), least, errors)
    return least / np.maximum(errors, np.finfo(float).tiny), fitted, knots, rise


def _noise(residuals: Array, fitted: int, generator: np.random.Generator) -> Array:
    """Return noise like the residuals of so many fitted numbers, ``[resamples, epochs]``: of first
    order, with innovations that are drawn from theirs, its correlation corrected for the fit.
    """
    count = len(residuals)
    squares = (residuals**2).sum()
    correlation = (residuals[1:] * residuals[:-1]).sum() / squares if squares else 0.0
    correlation = min(max((correlation * count + fitted) / (count - fitted), 0.0), 0.95)
    innovations = residuals[1:] - correlation * residuals[:-1]
    innovations = (innovations - innovations.mean()) * math.sqrt(count / (count - fitted))
    drawn = generator.choice(innovations, (_RESAMPLES, count + 20))
    noise = np.zeros(_RESAMPLES)
    steps = []
    for step in drawn.T:
        noise = correlation * noise + step
        steps.append(noise)
    return np.stack(steps[20:], axis=1)
