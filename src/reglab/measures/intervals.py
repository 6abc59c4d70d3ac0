"""Confidence intervals of means, shares and R² in closed form, batched over members.

Each is about the population that the rows were drawn from, the model being fixed. Rows count as
independent.
"""

from statistics import NormalDist
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from reglab.core.errors import UserError

Number = TypeVar("Number", float, Tensor)
_PRIOR = 0.5  # errors' worth of a design effect that is assumed before any error was seen


class Estimated(NamedTuple):
    """A value of some rows with its standard error and the ends of its interval, each ``[...]``;
    NaN: not known.
    """

    value: Tensor
    error: Tensor
    low: Tensor
    high: Tensor

    def unless(self, unknown: Tensor) -> "Estimated":
        """Return it without an interval where ``unknown``."""
        low, high = (end.masked_fill(unknown, torch.nan) for end in (self.low, self.high))
        return self._replace(low=low, high=high)

    def rooted(self) -> "Estimated":
        """Return the square root."""
        value = self.value.sqrt()
        return Estimated(value, self.error / (2 * value), self.low.clamp(min=0).sqrt(), self.high.sqrt())

    def exponential(self) -> "Estimated":
        """Return the exponential."""
        value = self.value.exp()
        return Estimated(value, self.error * value, self.low.exp(), self.high.exp())

    def of_a_part(self, left: float) -> "Estimated":
        """Return it as an estimate of a finite population of which a share ``left`` was not
        measured.

        The finite-population factor: widths times ``sqrt(left)``. With ``left = 0`` the value is
        exact, and it counts as exact where it has no interval, since all rows were alike.
        """
        low, high = (
            torch.where(end.isnan(), self.value, self.value + left**0.5 * (end - self.value))
            for end in (self.low, self.high)
        )
        return Estimated(self.value, left**0.5 * self.error, low, high)


def normal_quantile(level: float) -> float:
    """Return the standard normal's quantile that leaves ``(1 - level) / 2`` above it.

    Example:
        >>> round(normal_quantile(0.95), 4)
        1.96
    """
    return NormalDist().inv_cdf((1 + level) / 2)


def t_quantile(level: float, freedom: Number) -> Number:
    """Return Student's quantile for any degrees of freedom >= 2, to within 1%, from 5 on to within
    0.1%, at 0.95.

    Source:
        Abramowitz & Stegun (1964), Handbook of mathematical functions, 26.7.5.
    """
    z = normal_quantile(level)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    inverse = 1 / freedom
    return z + inverse * (terms[0] + inverse * (terms[1] + inverse * (terms[2] + inverse * terms[3])))


def mean_interval(values: Tensor, level: float) -> Estimated:
    """Return the mean of ``values`` ``[..., rows]`` with Hall's cubic t interval, which takes the
    skewness out of t's.

    ``mean - SE * h(t)`` to ``mean - SE * h(-t)``, where
    ``h(y) = 3/k * (cbrt(1 + k * (y - k/6)) - 1)`` and k is the skewness of the mean. No interval
    where all values are equal.

    Args:
        values: ``[..., rows]``.
        level: Of the interval, between 0 and 1.

    Raises:
        UserError: Below 2 rows.

    Source:
        Hall (1992), On the removal of skewness by transformation.
    """
    rows = values.shape[-1]
    if rows < 2:
        raise UserError(f"an interval needs at least 2 rows of the training and of the validation part, got {rows}")
    mean = values.mean(-1)
    around = values - mean.unsqueeze(-1)
    deviation = (around.square().sum(-1) / (rows - 1)).sqrt()
    # Standardized before it is cubed: losses of 1e-12 would leave the range of float32.
    standard = around / deviation.masked_fill(deviation == 0, 1.0).unsqueeze(-1)
    third = (standard.square() * standard).mean(-1) * rows**2 / ((rows - 1) * max(rows - 2, 1))
    skewness = third / rows**0.5
    error = deviation / rows**0.5
    t = t_quantile(level, float(max(rows - 1, 2)))
    low, high = (mean - error * _with_skewness(end, skewness) for end in (t, -t))
    return Estimated(mean, error, low, high).unless(deviation == 0)


def masked_mean_interval(values: Tensor, known: Tensor, level: float) -> Estimated:
    """Return ``mean_interval`` of some of the values; NaN of none, no interval of fewer than 2.

    Args:
        values: ``[..., rows]``.
        known: Which of them count, bool ``[..., rows]``.
        level: Of the interval, between 0 and 1.
    """
    rows = known.sum(-1).to(values.dtype)
    mean = values.masked_fill(~known, 0.0).sum(-1) / rows
    around = (values - mean.unsqueeze(-1)).masked_fill(~known, 0.0)
    deviation = (around.square().sum(-1) / (rows - 1)).sqrt()
    standard = around / deviation.masked_fill(deviation == 0, 1.0).unsqueeze(-1)
    third = (standard.square() * standard).sum(-1) * rows / ((rows - 1) * (rows - 2).clamp(min=1))
    error = deviation / rows.sqrt()
    t = t_quantile(level, (rows - 1).clamp(min=2))
    low, high = (mean - error * _with_skewness(end, third / rows.sqrt()) for end in (t, -t))
    return Estimated(mean, error, low, high).unless((deviation == 0) | (rows < 2))


def share_interval(value: Tensor, influence: Tensor, level: float, kish: Tensor | float = 1.0) -> Estimated:
    """Return a ``value`` between 0 and 1 with Wilson's interval, whose width is never 0.

    A share of rows that are right or wrong has as many rows as there are. Anything else (shares of
    several labels, weighted rows, scores that are no means) has ``rows / design``, where ``design``
    is its variance over that of a share. It is estimated with half an error's worth of ``kish``
    added, which decides while there are hardly any errors.

    Args:
        influence: What each row adds to the value, around it, ``[..., rows]``.
        kish: The rows that one row stands for, as the mean square of weights of mean 1, ``[...]``.

    Source:
        Wilson (1927), Probable inference, the law of succession, and statistical inference; the
        design effect: Korn & Graubard (1998), Confidence intervals for proportions with small
        expected number of positive counts.
    """
    rows = influence.shape[-1]
    squares = influence.square().sum(-1)
    design = (squares + _PRIOR * kish) / (rows * (value * (1 - value)).clamp(min=0) + _PRIOR)
    return Estimated(value, squares.sqrt() / rows, *_wilson(value, design / rows, level))


def log_interval(value: Tensor, relative: Tensor, level: float) -> Estimated:
    """Return a positive ``value`` with the interval of its logarithm by the jackknife; no interval
    where it is 0.

    Args:
        relative: By how much the value changes without each row, as a share of it, ``[..., rows]``.
            The t quantile has the degrees of freedom of a variance that is estimated from values of
            this kurtosis, ``2 * rows / (kurtosis - 1)``, at most ``rows - 1``: squared residuals of
            heavy tails let a few rows decide.

    Source:
        Efron & Stein (1981), The jackknife estimate of variance.
    """
    rows = relative.shape[-1]
    moved = torch.log1p(relative.clamp(min=-0.999))
    squares = (moved - moved.mean(-1, keepdim=True)).square()
    mean = squares.mean(-1)
    kurtosis = squares.square().mean(-1) / mean.square()
    error = ((rows - 1) * mean).sqrt()
    reach = error * t_quantile(level, (2 * rows / (kurtosis - 1)).clamp(min=2, max=max(rows - 1, 2)))
    ends = (value * (-reach).exp(), value * reach.exp())
    return Estimated(value, value * error, *ends).unless((value <= 0) | (mean == 0))


def mean_of_estimates(each: Estimated, known: Tensor | None = None) -> Estimated:
    """Return the mean over the first axis, of estimates that count as independent.

    Args:
        known: Which of them count.
    """
    if known is None:
        known = torch.ones_like(each.value, dtype=torch.bool)
    count = known.sum(0)
    value, *squares = (
        values.masked_fill(~known, 0.0).sum(0)
        for values in (each.value, *((end - each.value).square() for end in (each.low, each.high)), each.error.square())
    )
    value = value / count
    below, above, error = (total.sqrt() / count for total in squares)
    return Estimated(value, error, value - below, value + above)


def difference(first: Estimated, second: Estimated) -> tuple[Tensor, Tensor]:
    """Return the ends of the interval of ``first - second``, of independent rows, from the interval
    of each.

    ``low = first - second - sqrt((first - its low)^2 + (second's high - second)^2)``, and ``high``
    likewise. Of Wilson's intervals this is Newcombe's.

    Args:
        first: An estimate, ``[...]``.
        second: Another, of independent rows, ``[...]``.

    Returns:
        The low and the high end, ``[...]`` each.

    Source:
        Newcombe (1998), Interval estimation for the difference between independent proportions,
        method 10; Zou & Donner (2008), Construction of confidence limits about effect measures.
    """
    gap = first.value - second.value
    below = (first.value - first.low).square() + (second.high - second.value).square()
    above = (first.high - first.value).square() + (second.value - second.low).square()
    return gap - below.sqrt(), gap + above.sqrt()


def _wilson(share: Tensor, per_row: Tensor, level: float) -> tuple[Tensor, Tensor]:
    """Return Wilson's ends. per_row: the reciprocal of the number of rows."""
    excess = normal_quantile(level) ** 2 * per_row
    centre = (share + excess / 2) / (1 + excess)
    half = (excess * (share * (1 - share) + excess / 4)).clamp(min=0).sqrt() / (1 + excess)
    # A share of 0 or 1 is an end itself, which rounding must not move.
    return torch.minimum((centre - half).clamp(min=0), share), torch.maximum((centre + half).clamp(max=1), share)


def _with_skewness(t: float | Tensor, skewness: Tensor) -> Tensor:
    """Return ``h(t)`` as ``3 * (r^3 - 1) / (k * (r^2 + r + 1))`` of the cubic root r: nothing
    cancels at k = 0.
    """
    shifted = t - skewness / 6
    inside = 1 + skewness * shifted
    root = inside.sign() * inside.abs().pow(1 / 3)
    return 3 * shifted / (root * (root + 1) + 1)
