"""PAC-Bayes flatness: how much noise in the weights raises the training loss by a stated amount."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from reglab.measures.curvature import LossAt
from reglab.measures.matrices import TINY, checked_rows, spread_rows, wide
from reglab.measures.measure import Measure, Measured, Need

LEAST, MOST = 1e-5, 10.0  # of sigma
_HALVINGS = 14  # of their ratio: steps of 0.1%


class Flatness(Measure):
    """The standard deviation of Gaussian noise in all parameters at which the mean training loss
    rises by ``rise``: large where the minimum is flat.

    - ``flatness/sigma``: of noise ``sigma * z``, with z standard normal
    - ``flatness/relative_sigma``: of noise ``sigma * |w| * z``, which does not depend on the scale of
      each parameter; a parameter of exactly 0 has none
    - ``flatness/distance_over_sigma``: the weights' distance from the initialization / ``sigma``, the
      root of the leading term of a PAC-Bayes bound (twice its divergence)

    The mean over noise is that of the same ``probes`` draws, each with both signs, at every sigma, and
    the bisection ends within 0.1%. Sigma is between 1e-5 and 10, and is one of these where the loss
    rises sooner or later. The loss is that of the data, on fixed rows of the probe in evaluation mode.

    Args:
        rows: Of the probe, evenly spread; all if it has fewer.
        probes: Draws of the noise, at least 1.
        rise: Of the mean loss, > 0.
        every: As for ``Measure``.

    Raises:
        ValueError: For a number outside its range.

    Source:
        Dziugaite & Roy (2017), Computing nonvacuous generalization bounds for deep (stochastic) neural
        networks; Neyshabur et al. (2017), Exploring generalization in deep learning; Jiang et al.
        (2020), Fantastic generalization measures and where to find them (there: of the training error,
        and sigma by Monte-Carlo at each step).
    """

    needs = frozenset[Need]({"weights", "function"})
    charts = ("flatness/sigma", "flatness/relative_sigma")

    def __init__(
        self, rows: int = 512, probes: int = 10, rise: float = 0.1, every: int | Literal["end"] | None = "end"
    ) -> None:
        super().__init__(every)
        self.rows = checked_rows(rows)
        if not isinstance(probes, int) or isinstance(probes, bool) or probes < 1:
            raise ValueError(f"probes={probes} must be an integer >= 1")
        if isinstance(rise, bool) or not isinstance(rise, (int, float)) or not 0 < rise < math.inf:
            raise ValueError(f"rise={rise} must be a number > 0")
        self.probes, self.rise = probes, float(rise)

    def measure(self, of: Measured, state: dict[str, Tensor]) -> dict[str, Tensor]:
        loss = LossAt(of, spread_rows(of.count("train"), self.rows))
        generator = torch.Generator().manual_seed(0)
        draws = [torch.randn(loss.size, generator=generator).to(loss.flat) for _ in range(self.probes)]
        here = loss.value()

        def rise(scale: Tensor, sigma: Tensor) -> Tensor:
            total = torch.zeros_like(here)
            for draw in draws:
                noise = sigma.unsqueeze(-1) * scale * draw
                total = total + loss.value(noise) + loss.value(-noise)
            return total / (2 * self.probes) - here

        sigma = _largest(lambda each: rise(torch.ones_like(loss.flat), each), self.rise, here)
        relative = _largest(lambda each: rise(loss.flat.abs(), each), self.rise, here)
        moved = [
            (wide(weight) - wide(of.initial[name]).to(weight.device)).flatten(1).square().sum(1)
            for name, weight in of.weights.items()
        ]
        metrics = {"flatness/sigma": sigma, "flatness/relative_sigma": relative}
        if moved:
            metrics["flatness/distance_over_sigma"] = torch.stack(moved).sum(0).sqrt() / sigma.clamp(min=TINY)
        return metrics

    def row_passes(self, rows: int) -> float:
        return (4.0 * self.probes * _HALVINGS + 1) * min(self.rows, rows)


def _largest(rise: Callable[[Tensor], Tensor], wanted: float, like: Tensor) -> Tensor:
    """Return the sigma of each member at which ``rise`` reaches ``wanted``, by bisection of its
    logarithm; a rise that is not finite is too large.

    Args:
        rise: Of the loss, ``[members]``, for sigmas ``[members]``.
        wanted: Of the rise.
        like: Of the shape, dtype and device of sigmas.
    """
    low, high = torch.full_like(like, math.log(LEAST)), torch.full_like(like, math.log(MOST))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        below = rise(middle.exp()) < wanted  # False for NaN
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return ((low + high) / 2).exp()
