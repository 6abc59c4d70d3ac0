"""Cross-entropy = (bias + noise) + variance, as Kullback-Leibler divergences; jackknifed."""

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from reglab.analysis.bias_variance.pairs import Factors, Floats, clusters


@dataclass(frozen=True)
class CrossEntropy:
    """The parts of the cross-entropy of each row, ``[rows]``; ``risk = bias + variance``, exactly.

    Attributes:
        risk: Mean over runs of ``-log p(y)``.
        bias: Of the cross-entropy of the central prediction: bias and noise together.
        variance: Of the mean divergence ``KL(central || p)``.
    """

    risk: Floats
    bias: Floats
    variance: Floats


def cross_entropy(log_probabilities: Floats, targets: np.ndarray, factors: Factors) -> CrossEntropy:
    """Return bias (with noise) and variance of the cross-entropy.

    The central prediction is the one from which the runs' mean divergence is least, the normalized
    geometric mean of theirs: ``log c = E log p - log Z``, ``Z = sum over classes of exp(E log p)``.
    Then ``E[-log p(y)] = -log c(y) + E KL(c || p)``, and the variance is ``-log Z``. From K runs it is
    too small by O(1/K); the jackknife over what the runs differ in leaves O(1/K^2).

    Args:
        log_probabilities: ``[runs, rows, columns, classes]``, natural logarithms; the loss of a row is
            the mean over its columns, one except where a row has several labels.
        targets: ``[rows, columns]``, class numbers.
        factors: What made runs differ, ``[runs]`` each, with several levels.

    Source:
        Heskes (1998), Bias/variance decompositions for likelihood-based estimators; Pfau (2013), A
        generalized bias-variance decomposition for Bregman divergences; Yang et al. (2020),
        Rethinking bias-variance trade-off for generalization of neural networks.
    """
    chosen = np.take_along_axis(log_probabilities, targets[None, :, :, None], -1)[..., 0]
    risk = -chosen.mean((0, -1))
    variance = jackknifed_variance(log_probabilities, factors)
    return CrossEntropy(risk=risk, bias=risk - variance, variance=variance)


def jackknifed_variance(log_probabilities: Floats, factors: Factors) -> Floats:
    """Return ``-log Z`` of each row, ``[rows]``, with its bias of order 1/K removed.

    ``v + sum over factors of (L - 1) (v - mean over the L levels of v without the level)``

    Args:
        log_probabilities: ``[runs, rows, columns, classes]``.
        factors: As for ``cross_entropy``.

    Source:
        Quenouille (1956), Notes on bias in estimation.
    """
    total = log_probabilities.sum(0)
    runs, whole = len(log_probabilities), plug_in_variance(log_probabilities.mean(0))
    corrected = whole
    for levels in clusters(factors).values():
        count = int(levels.max()) + 1
        left_out = [levels == level for level in range(count)]
        without = [
            plug_in_variance((total - log_probabilities[out].sum(0)) / (runs - int(out.sum()))) for out in left_out
        ]
        corrected = corrected + (count - 1) * (whole - np.mean(without, axis=0))
    return corrected


def plug_in_variance(mean_log: Floats) -> Floats:
    """Return ``-log Z`` from mean log probabilities ``[rows, columns, classes]``, ``[rows]``."""
    return np.asarray(-logsumexp(mean_log, axis=-1).mean(-1))
