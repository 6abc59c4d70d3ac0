"""Sparse regression: many independent features, few of which matter, with known coefficients."""

import numpy as np

from reglab.core.errors import UserError
from reglab.data.checks import number, whole
from reglab.data.source import Source, linear
from reglab.data.streams import normal, permutation, stream, uniform


def sparse_regression(
    *, rows: int = 300, features: int = 200, informative: int = 10, noise: float = 0.5, seed: int = 0
) -> Source:
    """Return ``y = X w + noise * e`` with ``X, e ~ N(0, 1)`` and ``informative`` nonzero ``w``.

    The nonzero coefficients have random signs and magnitudes within a factor of two of each other,
    scaled to ``|w| = 1``: the signal has variance 1, so the best reachable R^2 is ``1 / (1 +
    noise^2)``.

    Args:
        rows: Number of rows, >= 1.
        features: Number of features, >= 1.
        informative: Number of nonzero coefficients.
        noise: Standard deviation, >= 0.
        seed: Seed of all draws, >= 0.

    Raises:
        UserError: If there are more informative features than features.
    """
    whole("rows", rows, 1)
    if whole("informative", informative, 1) > whole("features", features, 1):
        raise UserError(f"data.informative={informative} is more than data.features={features}: lower it")
    key = (whole("seed", seed, 0), "sparse_regression")
    inputs = normal(stream(*key, "inputs"), rows, features)
    chosen = permutation(stream(*key, "places"), features)[:informative]
    signs = np.where(uniform(stream(*key, "signs"), informative) < 0.5, -1.0, 1.0)
    coefficients = np.zeros(features)
    coefficients[chosen] = signs * (1 + uniform(stream(*key, "magnitudes"), informative))
    coefficients /= np.linalg.norm(coefficients)
    signal = linear(inputs, coefficients)
    errors = number("noise", noise, 0) * normal(stream(*key, "noise"), rows)
    return Source(
        task="regression",
        numeric=inputs,
        numeric_names=tuple(f"x_{feature}" for feature in range(features)),
        targets=signal + errors,
        expected=signal,
        target_names=("y",),
        coefficients=coefficients,
        relevant=coefficients != 0,
    )
