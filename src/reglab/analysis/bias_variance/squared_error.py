"""Squared error = bias^2 + variance + noise, by exactly unbiased estimates from pairs of runs."""

from dataclasses import dataclass

import numpy as np

from reglab.analysis.bias_variance.pairs import Factors, Floats, pair_means
from reglab.core.errors import UserError

INTERACTIONS = "interactions"


@dataclass(frozen=True)
class SquaredError:
    """The parts of the squared error of each row, ``[rows]``.

    Attributes:
        risk: Mean over runs of ``(f - y)^2``.
        bias: Of ``(E f - m)^2`` where the expected target ``m`` is known, and else of ``(E f - y)^2``,
            which holds bias^2 and noise together: ``risk = bias + variance`` then, exactly.
        variance: Of ``Var f``.
        noise: ``(y - m)^2``; None where ``m`` is not known.
        sources: The variance by what made runs differ: a factor's own effect, and what the factors
            do together. Empty where they cannot be told apart.
    """

    risk: Floats
    bias: Floats
    variance: Floats
    noise: Floats | None
    sources: dict[str, Floats]


def squared_error(
    predictions: Floats, targets: Floats, factors: Factors, expected: Floats | None = None
) -> SquaredError:
    """Return bias^2, variance and noise of the squared error, each row's without bias.

    From the mean ``P`` of the products of two runs that share nothing: ``bias^2 = P - 2 m E f + m^2``,
    ``variance = E f^2 - P``. The plug-in variance of K runs is too small by the share 1/K, and the
    plug-in bias^2 too large by as much. Estimates of a row, and of a small bias^2, may be below 0.

    Args:
        predictions: ``[runs, rows, columns]``; the error of a row is the mean over its columns.
        targets: ``[rows, columns]``, with noise.
        factors: What made runs differ, ``[runs]`` each, with several levels.
        expected: ``[rows, columns]``, the targets without noise.

    Raises:
        UserError: All pairs of runs share something.

    Source:
        Geman, Bienenstock, Doursat (1992), Neural networks and the bias/variance dilemma.
    """
    products = pair_means(predictions, factors)
    apart = products.get(frozenset())
    if apart is None:
        raise UserError(
            "every two of the runs that are there share a training sample or a seed: run what is left of the sweep"
        )
    mean, second = predictions.mean(0), (predictions**2).mean(0)
    true = targets if expected is None else expected
    variance = second - apart
    return SquaredError(
        risk=_of_rows((predictions - targets) ** 2).mean(0),
        bias=_of_rows(apart - 2 * true * mean + true**2),
        variance=_of_rows(variance),
        noise=None if expected is None else _of_rows((targets - expected) ** 2),
        sources={name: _of_rows(part) for name, part in _sources(products, variance).items()},
    )


def _sources(products: dict[frozenset[str], Floats], variance: Floats) -> dict[str, Floats]:
    """Return the variance of each factor's effect and of the rest, ``[rows, columns]`` each.

    By the law of total variance. Seeds that each replica has of its own are never shared by two
    replicas: their effect is in the rest.
    """
    apart = products[frozenset()]
    single = {next(iter(shared)): mean - apart for shared, mean in products.items() if len(shared) == 1}
    if not single:
        return {}
    return single | {INTERACTIONS: variance - sum(single.values(), np.zeros_like(variance))}


def _of_rows(values: Floats) -> Floats:
    return np.asarray(values.mean(-1))
