"""Bias, variance and noise of a setting, with intervals over training samples and rows."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from reglab.analysis.bias_variance.cross_entropy import cross_entropy, jackknifed_variance, plug_in_variance
from reglab.analysis.bias_variance.intervals import Estimates, Number, numbers
from reglab.analysis.bias_variance.pairs import Factors, Floats, Integers, clusters, restricted
from reglab.analysis.bias_variance.predictions import SAMPLE, Predictions
from reglab.analysis.bias_variance.squared_error import squared_error
from reglab.analysis.bias_variance.zero_one import zero_one

RISK, SUM, VARIANCE, NOISE = "risk", "sum", "variance", "noise"
BIAS, BIAS_NOISE = "bias2", "bias2_noise"  # without and with noise
HALF = "variance_half"
MAIN_WRONG, ADDS, HELPS = "bias", "variance_adds", "variance_helps"
MAIN = {
    "regression": "squared error",
    "classification": "cross-entropy",
    "binary": "cross-entropy",
    "multilabel": "cross-entropy",
}
_SOURCE = "source "
_HALVED = 4  # training samples, of which a half still has a variance
_POSITIVE = frozenset({RISK, SUM, VARIANCE, NOISE})


@dataclass(frozen=True)
class Parts:
    """The parts of a loss.

    Attributes:
        loss: ``squared error``, ``cross-entropy``, ``Brier score`` or ``error``.
        numbers: By name: ``risk``, the measured loss; ``bias2`` where noise is known, else
            ``bias2_noise``, bias and noise together (of a cross-entropy, a divergence); ``variance``;
            ``noise``; ``sum`` of the three, which is the risk up to the rows' chance; of a
            cross-entropy ``variance_half``, the variance from half the training samples.
        sources: The variance by what made runs differ.
    """

    loss: str
    numbers: Mapping[str, Number]
    sources: Mapping[str, Number] = field(default_factory=dict)

    @property
    def bias(self) -> Number:
        """Bias^2, with the noise where that is not known."""
        return self.numbers[BIAS] if BIAS in self.numbers else self.numbers[BIAS_NOISE]

    @property
    def noise_known(self) -> bool:
        """Whether noise stands apart from bias^2."""
        return NOISE in self.numbers


@dataclass(frozen=True)
class Decomposition:
    """Bias and variance of a setting.

    Attributes:
        main: Parts of the loss.
        others: Of a classification, parts of the Brier score and of the error.
        replicas: Number of training samples.
        runs: Number of runs.
        rows: Number of rows that they were measured on.
    """

    main: Parts
    others: tuple[Parts, ...]
    replicas: int
    runs: int
    rows: int


def decompose(answers: Predictions, level: float = 0.95) -> Decomposition:
    """Return bias, variance and noise of the runs' loss.

    Args:
        answers: Of the runs.
        level: Of the intervals.
    """
    weights, factors = answers.weights, answers.factors

    def parts(loss: str, estimates: Estimates) -> Parts:
        found = numbers(estimates, factors, weights, level, _POSITIVE)
        sources = {key.removeprefix(_SOURCE): found.pop(key) for key in list(found) if key.startswith(_SOURCE)}
        return Parts(loss, found, sources)

    replicas, runs, rows = len(set(answers.levels[SAMPLE])), *answers.outputs.shape[:2]
    main = parts(MAIN[answers.task], estimates_of(answers))
    if answers.task == "regression":
        return Decomposition(main, (), replicas, runs, rows)
    log_probabilities, classes = answers.log_probabilities()
    if replicas >= _HALVED:
        half = _variance_from_halves(log_probabilities, factors, weights)
        main = replace(main, numbers={**main.numbers, HALF: Number(half)})
    count = log_probabilities.shape[-1]
    scale = math.sqrt(count) if count > 2 else 1.0  # of several classes the score is a sum
    probabilities = scale * np.exp(log_probabilities).reshape(runs, rows, -1)
    hits = scale * (classes[..., None] == np.arange(count)).reshape(rows, -1)
    others = [parts("Brier score", _of_squares(probabilities, hits, None, factors))]
    if answers.task != "multilabel":
        others.append(_error(log_probabilities[:, :, 0], classes[:, 0], answers, level))
    return Decomposition(main, tuple(others), replicas, runs, rows)


def estimates_of(answers: Predictions) -> Estimates:
    """Return the parts of the loss by row.

    Args:
        answers: Of the runs.
    """
    if answers.task == "regression":
        return _of_squares(answers.outputs, answers.targets.astype(np.float64), answers.expected, answers.factors)
    log_probabilities, classes = answers.log_probabilities()
    losses = answers.losses()

    def by_row(kept: NDArray[np.bool_]) -> dict[str, Floats]:
        risk, variance = losses[kept].mean(0), plug_in_variance(log_probabilities[kept].mean(0))
        return {BIAS_NOISE: risk - variance, VARIANCE: variance, RISK: risk}

    parts = cross_entropy(log_probabilities, classes, answers.factors)
    return Estimates({BIAS_NOISE: parts.bias, VARIANCE: parts.variance, RISK: parts.risk}, by_row)


def _of_squares(outputs: Floats, targets: Floats, expected: Floats | None, factors: Factors) -> Estimates:
    def by_row(kept: NDArray[np.bool_]) -> dict[str, Floats]:
        parts = squared_error(outputs[kept], targets, restricted(factors, kept), expected)
        found = {VARIANCE: parts.variance, RISK: parts.risk} | {
            _SOURCE + name: part for name, part in parts.sources.items()
        }
        if parts.noise is None:
            return {BIAS_NOISE: parts.bias, **found}
        total = parts.bias + parts.variance + parts.noise
        return {BIAS: parts.bias, NOISE: parts.noise, SUM: total, **found}

    return Estimates(by_row(np.ones(len(outputs), dtype=bool)), by_row)


def _variance_from_halves(log_probabilities: Floats, factors: Factors, weights: Floats | None) -> float:
    """Return the variance from half the training samples: the mean over both halves."""
    levels = next(iter(clusters(factors).values()))
    first = levels < (int(levels.max()) + 1) // 2
    means = []
    for half in (first, ~first):
        rows = jackknifed_variance(log_probabilities[half], restricted(factors, half))
        means.append(float(np.average(rows, weights=weights)))
    return float(np.mean(means))


def _error(log_probabilities: Floats, classes: Integers, answers: Predictions, level: float) -> Parts:
    """Return the parts of the error; those of the main prediction with intervals over the rows alone."""
    predicted, count = log_probabilities.argmax(-1), log_probabilities.shape[-1]
    found = zero_one(predicted, classes, count)
    fixed = {MAIN_WRONG: found.bias, VARIANCE: found.variance, ADDS: found.adds, HELPS: found.helps}
    over_rows = numbers(Estimates(fixed, lambda _: fixed), {}, answers.weights, level)
    wrong = (predicted != classes).astype(np.float64)
    risk = Estimates({RISK: wrong.mean(0)}, lambda kept: {RISK: wrong[kept].mean(0)})
    return Parts("error", {**over_rows, **numbers(risk, answers.factors, answers.weights, level)})
