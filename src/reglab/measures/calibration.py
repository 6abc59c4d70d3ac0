"""Calibration: how far confidences are from the share of right decisions, with intervals and a gap."""

import math

import torch
from torch import Tensor

from reglab.core.errors import UserError
from reglab.measures.intervals import Estimated, difference, normal_quantile
from reglab.measures.measure import Measure, Measured, Need, Part
from reglab.tasks import Task

BINS = 15
_FOLDED = math.sqrt(2 / math.pi)  # mean of |N(0, 1)|
_PRIOR = 0.25  # variance of half an error, which every bin that holds something is given


class Calibration(Measure):
    """The expected calibration error (ECE) of the decisions on both sides of the gap.

    The confidence of a row is the probability of the class that it is decided for; of several
    labels each is decided and counts. Numbers, each with ``train_``, ``val_`` and ``gap_`` (val
    minus train) before it:

    - ``ece``: ``sum over bins of |B|/n * |mean confidence - share right|``, 15 bins of equal width
      (Guo et al. 2017), with ``_low`` and ``_high`` of ``val_`` and ``gap_``; ``chance`` is what a
      perfectly calibrated model with these confidences would have of it
    - ``ece_mass``: the same over 15 bins of equally many rows
    - ``square``: the squared calibration error over these bins, unbiased, so that it may be below 0
      (Kumar et al. 2019, with the variance of confidence minus right in place of that of the labels:
      a U-statistic), ``val_`` with ``_low`` and ``_high`` (after Sun et al. 2024)
    - ``reliability``: that term of the Brier score of the decisions over bins of equal width, biased
      upwards (Murphy 1973)

    Args:
        every: See ``Measure``.

    Source:
        Guo, Pleiss, Sun & Weinberger (2017), On calibration of modern neural networks; Kumar, Liang
        & Ma (2019), Verified uncertainty calibration; Sun, Chaudhari, Barnett & Dobriban (2024), A
        confidence interval for the l2 expected calibration error; Murphy (1973), A new vector
        partition of the probability score.
    """

    needs = frozenset[Need]({"examples", "outputs"})
    charts = ("calibration/val_ece", "calibration/gap_ece", "calibration/val_square")

    def check(self, task: Task) -> None:
        if "brier" not in task.scores:
            raise UserError(
                f"the task {task.name} has no probability of each decision: leave calibration out of measure, or "
                "choose data.task=classification, binary, ordinal or multilabel"
            )

    def measure(self, of: Measured, state: dict[str, Tensor]) -> dict[str, Tensor]:
        train, val = (decisions(of, part) for part in ("train", "val"))
        metrics: dict[str, Tensor] = {}
        binned = {"width": _equal_width, "mass": _equal_mass}
        sums = {name: [BinSums(*side, rule(side[0])) for side in (train, val)] for name, rule in binned.items()}
        for name, each in (("ece", sums["width"]), ("ece_mass", sums["mass"])):
            metrics |= _sides(name, *(side.ece() for side in each))
        metrics |= _sides("reliability", *(side.reliability() for side in sums["width"]))
        metrics |= _sides("square", *(side.square() for side in sums["mass"]))
        metrics |= {
            f"calibration/{part}_chance": side.chance()
            for part, side in zip(("train", "val"), sums["width"], strict=True)
        }
        faultless = (val[1] == 1).flatten(1).all(-1)
        left = of.side("train").left
        new = sums["width"][1].ece_interval(of.level).unless(faultless)
        exactly = Estimated(*[metrics["calibration/train_ece"]] * 4)
        fitted = sums["width"][0].ece_interval(of.level).of_a_part(left) if left else exactly
        square = sums["mass"][1].square_interval(of.level).unless(faultless)
        low, high = difference(new, fitted)
        return metrics | {
            "calibration/val_ece_low": new.low,
            "calibration/val_ece_high": new.high,
            "calibration/gap_ece_low": low,
            "calibration/gap_ece_high": high,
            "calibration/val_square_low": square.low,
            "calibration/val_square_high": square.high,
        }


def decisions(of: Measured, part: Part) -> tuple[Tensor, Tensor]:
    """Return the confidence of each decision and whether it is right, ``[members, columns, rows]``
    each, float64: a column for each label, one where classes exclude each other.
    """
    side = of.side(part)
    assert side.outputs is not None
    given = of.task.answers(side.outputs, of.targets(part))
    if of.task.exclusive:
        confidence, decided = given.scores.double().exp(), given.predicted
        chosen = (confidence * decided).sum(-2, keepdim=True)
        return chosen.clamp(max=1.0), (given.wanted * decided).sum(-2, keepdim=True).double()
    chances = given.scores.double().sigmoid()
    return torch.maximum(chances, 1 - chances), (given.wanted == given.predicted).double()


class BinSums:
    """Sums over bins of confidence minus right, by row: a row with several labels is one draw.

    Args:
        confidence: ``[members, columns, rows]``.
        right: 0 or 1, the same shape.
        bins: The number of each decision's bin, int64, the same shape.
    """

    def __init__(self, confidence: Tensor, right: Tensor, bins: Tensor) -> None:
        self.rows, items = confidence.shape[-1], confidence.shape[-2] * confidence.shape[-1]
        within = [(bins == number).to(confidence.dtype) for number in range(BINS)]
        excess = [((confidence - right) * each).sum(-2) for each in within]
        counts = [each.sum(-2) for each in within]
        self.total, self.squares, self.mixed = (
            torch.stack([(one * two).sum(-1) for one, two in zip(first, second, strict=True)])
            for first, second in (
                (excess, [torch.ones_like(each) for each in excess]),
                (excess, excess),
                (excess, counts),
            )
        )
        self.count = torch.stack([each.sum(-1) for each in counts])
        self.pairs = torch.stack([each.square().sum(-1) for each in counts])
        spread = [((confidence * (1 - confidence)) * each).sum((-2, -1)) for each in within]
        self.items, self.by_chance = items, torch.stack(spread).sqrt()

    def ece(self) -> Tensor:
        """Return the ECE, ``[members]``."""
        return self.total.abs().sum(0) / self.items

    def reliability(self) -> Tensor:
        """Return the reliability term of the Brier score of the decisions, ``[members]``."""
        return (self.total.square() / self.count.clamp(min=1)).sum(0) / self.items

    def chance(self) -> Tensor:
        """Return the mean ECE of a calibrated model whose rows fall into these bins, ``[members]``."""
        return _FOLDED * self.by_chance.sum(0) / self.items

    def square(self) -> Tensor:
        """Return the unbiased squared calibration error, ``[members]``: over pairs of distinct rows."""
        return (self._share() * self._squares()).sum(0)

    def ece_interval(self, level: float) -> Estimated:
        """Return the ECE with an interval for that of the population in the same bins.

        The ECE of a sample exceeds that of its population by what chance adds to each bin, between
        ``s * (g(x) - x)`` and ``s * g(0)``, where s is the sum of the bins' standard errors, ``x``
        the population's ECE / s and ``g(x) = E|N(x, 1)|``. The upper end assumes the least, the
        lower end the most, with a standard error that is no less than the true one.

        Args:
            level: Between 0 and 1.
        """
        centred = (self.squares - self.total.square() / self.rows).clamp(min=0) + _PRIOR * (self.count > 0)
        # As rows count, each of which adds its columns' mean.
        errors = centred.sqrt() / self.items
        value, scale, error = self.ece(), errors.sum(0), errors.square().sum(0).sqrt()
        reach = normal_quantile(level) * error
        low = (value - _FOLDED * scale - reach).clamp(min=0)
        high = torch.maximum(scale * _folded_inverse((value + reach) / scale), value)
        return Estimated(value, error, low, high.clamp(max=1))

    def square_interval(self, level: float) -> Estimated:
        """Return the unbiased squared calibration error with its normal interval.

        Args:
            level: Between 0 and 1.
        """
        mean = self.total / self.count.clamp(min=1)
        around = self.squares - 2 * mean * self.mixed + mean.square() * self.pairs
        variance = (around.clamp(min=0) + _PRIOR * (self.count > 0)) / self.count.clamp(min=1).square()
        error = (self._share().square() * (4 * mean.square() * variance + 2 * variance.square())).sum(0).sqrt()
        value, reach = self.square(), normal_quantile(level) * error
        return Estimated(value, error, value - reach, value + reach)

    def _share(self) -> Tensor:
        return self.count / self.items

    def _squares(self) -> Tensor:
        return (self.total.square() - self.squares) / (self.count.square() - self.pairs).clamp(min=1)


def _equal_width(confidence: Tensor) -> Tensor:
    """Return the number of each decision's bin ``(k/15, (k+1)/15]``."""
    edges = torch.linspace(0, 1, BINS + 1, dtype=confidence.dtype, device=confidence.device)
    return torch.bucketize(confidence, edges[1:-1])


def _equal_mass(confidence: Tensor) -> Tensor:
    """Return the number of each decision's bin of equally many, ties in the order of the rows; fewer
    bins where one would hold a single decision.
    """
    flat = confidence.flatten(1)
    items = flat.shape[-1]
    ranks = flat.argsort(dim=-1, stable=True).argsort(-1)
    return (ranks * min(BINS, max(items // 2, 1)) // items).reshape(confidence.shape)


def _folded_inverse(mean: Tensor) -> Tensor:
    """Return x >= 0 where ``E|N(x, 1)| = mean``, by bisection; 0 below the least mean."""
    low, high = torch.zeros_like(mean), mean.clamp(min=_FOLDED)
    for _ in range(50):
        middle = (low + high) / 2
        folded = _FOLDED * (-middle.square() / 2).exp() + middle * torch.special.erf(middle / math.sqrt(2))
        low, high = torch.where(folded < mean, middle, low), torch.where(folded < mean, high, middle)
    return (low + high) / 2


def _sides(name: str, train: Tensor, val: Tensor) -> dict[str, Tensor]:
    return {f"calibration/{side}_{name}": each for side, each in (("train", train), ("val", val), ("gap", val - train))}
