"""Mean and deviation of many rows from the moments of their blocks."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from reglab.data.reader import Array
from reglab.data.source import Floats, Integers

_BYTES = np.arange(256.0)


class Scale(NamedTuple):
    """What values are standardized by, float64 ``[]``, or by column ``[columns]``."""

    center: Floats
    scale: Floats


class Moments(NamedTuple):
    """Moments of some values, of all together or by column: float64 ``[]`` or ``[columns]``.

    Args:
        values: How many there are (of a column), which differ by column where some are padding.
        mean: Of the values.
        squares: Sum of their squared deviations from the mean.
        least, most: Of the values.
    """

    values: int | Integers
    mean: Floats
    squares: Floats
    least: Floats
    most: Floats

    def scale(self) -> Scale:
        """Return mean and population deviation; 1 for what is constant, or only padding."""
        deviation = np.sqrt(self.squares / np.maximum(self.values, 1))
        return Scale(self.mean, np.where(self.least >= self.most, 1.0, deviation))


def moments_of(rows: Array, by_column: bool, pad: float | None = None) -> Moments:
    """Return the moments of a block of rows.

    Args:
        rows: ``[rows, ...]``.
        by_column: For each column of the flat rows, rather than for all values together.
        pad: The value of padding, which does not count; None: there is none.
    """
    values = rows.reshape(len(rows), -1) if by_column else rows.reshape(-1)
    values = values.astype(np.float64)
    if pad is not None:
        real = values != pad
        count: Integers = np.asarray(real.sum(axis=0))
        mean = np.where(real, values, 0).sum(axis=0) / np.maximum(count, 1)
        squares = np.where(real, (values - mean) ** 2, 0).sum(axis=0)
        least, most = np.where(real, values, np.inf).min(axis=0), np.where(real, values, -np.inf).max(axis=0)
        return Moments(count, mean, squares, least, most)
    mean = np.asarray(values.mean(axis=0))
    return Moments(len(values), mean, ((values - mean) ** 2).sum(axis=0), values.min(axis=0), values.max(axis=0))


def scale_of(blocks: Iterable[Moments]) -> Scale:
    """Return mean and population deviation of several blocks together; 1 for what is constant,
    whose deviation rounding would make tiny.

    Args:
        blocks: At least one; the result depends on their order by rounding alone.

    Source:
        Chan, Golub & LeVeque (1983), Algorithms for computing the sample variance.
    """
    return total_of(blocks).scale()


def total_of(blocks: Iterable[Moments]) -> Moments:
    """Return the moments of several blocks together.

    Args:
        blocks: At least one; the result depends on their order by rounding alone.
    """
    total, *others = blocks
    for block in others:
        total = _merged(total, block)
    return total


def counts_of(rows: Array) -> Integers:
    """Return how often each of the 256 values of a byte is in ``rows``, int64 ``[256]``."""
    counts: Integers = np.bincount(rows.reshape(-1), minlength=256)
    return counts


def scale_of_counts(counts: Integers) -> Scale:
    """Return mean and population deviation of bytes, exactly, from ``counts_of`` all of them.

    Args:
        counts: int64 ``[256]``, the sum over any blocks.
    """
    center = np.average(_BYTES, weights=counts)
    return Scale(center, np.asarray(np.sqrt(np.average((_BYTES - center) ** 2, weights=counts)) or 1.0))


def _merged(one: Moments, other: Moments) -> Moments:
    values, change = np.maximum(one.values + other.values, 1), other.mean - one.mean
    return Moments(
        one.values + other.values,
        one.mean + change * (other.values / values),
        one.squares + other.squares + change**2 * (one.values * other.values / values),
        np.minimum(one.least, other.least),
        np.maximum(one.most, other.most),
    )
