"""The learning curve: a power law of the loss over the number of training rows, extrapolated."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from reglab.core.errors import UserError

LEAST_SIZES = 4  # a power law has three numbers
_EXPONENTS = np.geomspace(0.02, 4, 160)
_FLOORS = 161

Array = NDArray[np.float64]


@dataclass(frozen=True)
class At:
    """The mean loss of a number of training rows.

    Attributes:
        rows: How many.
        value: The loss.
        low: The lower end of its interval.
        high: The upper end.
    """

    rows: float
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class LearningCurve:
    """``loss = floor + scale * rows^-exponent``.

    Attributes:
        floor: The loss that no number of rows brings down, >= 0.
        scale: >= 0.
        exponent: > 0.
        least: Rows of the smallest training part that was measured.
        most: Rows of the largest.
        twice: At twice as many as the largest.
    """

    floor: float
    scale: float
    exponent: float
    least: float
    most: float
    twice: At

    def __call__(self, rows: float) -> float:
        """Return the loss that the curve has at a number of rows."""
        return float(self.floor + self.scale * rows**-self.exponent)

    def rows_for(self, loss: float) -> float:
        """Return how many rows the curve needs to come down to a loss; infinity if it never does."""
        if loss <= self.floor or not self.scale:
            return math.inf
        return float((self.scale / (loss - self.floor)) ** (1 / self.exponent))


def learning_curve(rows: ArrayLike, losses: ArrayLike, seeds: ArrayLike, level: float = 0.95) -> LearningCurve:
    """Return the power law of runs that differ in their number of training rows and in their seeds.

    ``sum over runs of ((loss - floor - scale * rows^-exponent) / mean loss of these rows)^2`` is
    least, with floor and scale >= 0: errors count relative to the loss. The interval at twice the
    rows is that of the profile likelihood: all values that some power law has there whose sum of
    squares is above the least one by at most ``s^2 t^2``; s is what runs deviate from the curve
    beside what is common to a seed, which is added in squares. It speaks of other seeds, on the same
    validation rows, if the law holds.

    Args:
        rows: Training rows of each run, ``[runs]``.
        losses: Of each run, >= 0, ``[runs]``.
        seeds: What each run shares with those of other sizes, ``[runs]``.
        level: Of the interval.

    Returns:
        The curve.

    Raises:
        UserError: Below ``LEAST_SIZES`` different numbers of rows, two runs more than these have
            numbers to fit, or a loss that is negative or not finite.

    Source:
        Cortes, Jackel, Solla, Vapnik & Denker (1994), Learning curves: asymptotic values and rate of
        convergence; Bates & Watts (1988), Nonlinear regression analysis and its applications,
        chapter 6 (profile likelihood).
    """
    sizes, values = np.asarray(rows, dtype=float), np.asarray(losses, dtype=float)
    own = np.asarray(seeds)
    different = np.unique(sizes)
    if len(different) < LEAST_SIZES:
        raise UserError(
            f"a learning curve needs runs of at least {LEAST_SIZES} different data.train_size, got {len(different)}"
        )
    if not np.isfinite(values).all() or (values < 0).any() or not values.any():
        raise UserError("a learning curve is fitted to losses that are finite and not below 0")
    means = np.array([values[sizes == size].mean() for size in sizes])
    weights = 1 / np.maximum(means, 1e-12 * values.max())
    scaled = sizes / different[-1]  # powers of it neither overflow nor vanish
    floors = np.linspace(0, min(1.5 * means.min(), means.max()), _FLOORS)
    for _ in range(2):
        grid = _grid(scaled, values, weights, floors)
        floor = floors[np.unravel_index(grid.squares.argmin(), grid.squares.shape)[1]]
        width = 2 * (floors[1] - floors[0])
        floors = np.union1d(floors, np.linspace(max(floor - width, 0), floor + width, 41))
    grid = _grid(scaled, values, weights, floors)
    at_exponent, at_floor = np.unravel_index(grid.squares.argmin(), grid.squares.shape)
    exponent, floor, scale = _EXPONENTS[at_exponent], floors[at_floor], grid.scales[at_exponent, at_floor]
    noise, common = _noise(weights * (values - floor - scale * scaled**-exponent), own, len(different))
    freedom = max(len(values) - 3 - (len(np.unique(own)) - 1), 1)
    limit = grid.squares.min() + noise * float(stdtrit(freedom, (1 + level) / 2)) ** 2
    value = floor + scale * 2**-exponent
    low, high = _profile(grid, floors, limit)
    count = len(np.unique(own))
    reach = value * math.sqrt(common / count) * float(stdtrit(count - 1, (1 + level) / 2)) if count > 1 else 0.0
    low, high = value - math.hypot(value - low, reach), value + math.hypot(high - value, reach)
    twice = At(2 * float(different[-1]), float(value), float(max(low, 0.0)), float(high))
    original = float(scale * different[-1] ** exponent)
    return LearningCurve(float(floor), original, float(exponent), float(different[0]), float(different[-1]), twice)


@dataclass(frozen=True)
class _Grid:
    """The best power law of each exponent and floor, ``[exponents, floors]``.

    Attributes:
        squares: The sum of squares.
        scales: The best scale, at one of the largest number of rows.
        curvature: By how much the sum of squares grows with the scale's square, ``[exponents, 1]``.
    """

    squares: Array
    scales: Array
    curvature: Array


def _grid(scaled: Array, values: Array, weights: Array, floors: Array) -> _Grid:
    powers = weights * scaled ** -_EXPONENTS[:, None]  # [exponents, runs]
    left = weights * (values - floors[:, None])  # [floors, runs]
    curvature = (powers**2).sum(1, keepdims=True)
    scales = np.maximum(powers @ left.T / curvature, 0.0)
    squares = (left**2).sum(1) - 2 * scales * (powers @ left.T) + scales**2 * curvature
    return _Grid(squares, scales, curvature)


def _profile(grid: _Grid, floors: Array, limit: float) -> tuple[float, float]:
    """Return the least and the largest value at twice the rows of all power laws within the limit."""
    inside = grid.squares <= limit
    reach = np.sqrt(np.maximum(limit - grid.squares, 0.0) / grid.curvature)
    factor = 2 ** -_EXPONENTS[:, None]
    lows = floors + np.maximum(grid.scales - reach, 0.0) * factor
    highs = floors + (grid.scales + reach) * factor
    return float(lows[inside].min()), float(highs[inside].max())


def _noise(residuals: Array, seeds: NDArray[np.generic], sizes: int) -> tuple[float, float]:
    """Return the variance of residuals beside what is common to a seed, and the variance of that."""
    each = [residuals[seeds == seed] for seed in np.unique(seeds)]
    if len(each) == 1:
        return float((residuals**2).sum() / max(len(residuals) - 3, 1)), 0.0
    within = sum(((own - own.mean()) ** 2).sum() for own in each)
    noise = float(within) / max(len(residuals) - 3 - (len(each) - 1), 1)
    common = float(np.var([own.mean() for own in each], ddof=1))
    return noise, max(common - noise / sizes, 0.0)
