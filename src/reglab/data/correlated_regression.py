"""Correlated regression: groups of nearly equal features, with known coefficients."""

import numpy as np

from reglab.core.errors import UserError
from reglab.data.checks import number, whole
from reglab.data.source import Source, linear
from reglab.data.streams import normal, permutation, stream


def correlated_regression(
    *,
    rows: int = 300,
    groups: int = 20,
    group_size: int = 5,
    informative_groups: int = 4,
    correlation: float = 0.95,
    noise: float = 0.5,
    seed: int = 0,
) -> Source:
    """Return a regression in which L1 picks one feature of a group and L2 shares among all.

    Feature j of group g is ``sqrt(c) z_g + sqrt(1 - c) e_j`` with standard normal ``z, e``: unit
    variance, correlation ``c`` within a group, 0 between groups. All features of an informative
    group have the same coefficient, positive for every other such group and negative for the rest,
    scaled so that the signal has variance 1.

    Args:
        rows: Number of rows, >= 1.
        groups: Number of groups, >= 1.
        group_size: Features of a group, >= 1.
        informative_groups: Groups with nonzero coefficients.
        correlation: ``c``, from 0 to 1.
        noise: Standard deviation of the added noise, >= 0.
        seed: Seed of all draws, >= 0.

    Raises:
        UserError: If there are more informative groups than groups.

    Source:
        Zou & Hastie (2005), Regularization and variable selection via the elastic net, section 5.
    """
    whole("rows", rows, 1)
    if whole("informative_groups", informative_groups, 1) > whole("groups", groups, 1):
        raise UserError(f"data.informative_groups={informative_groups} is more than data.groups={groups}: lower it")
    key = (whole("seed", seed, 0), "correlated_regression")
    members = np.repeat(np.arange(groups), whole("group_size", group_size, 1))
    shared = np.sqrt(number("correlation", correlation, 0, 1))
    individual = np.sqrt(1 - shared**2) * normal(stream(*key, "own"), rows, len(members))
    inputs = shared * normal(stream(*key, "shared"), rows, groups)[:, members] + individual
    chosen = permutation(stream(*key, "places"), groups)[:informative_groups]
    direction = np.zeros(groups)
    direction[chosen] = (-1.0) ** np.arange(informative_groups)
    # Variance of a group's sum: group_size features of variance 1 and all their covariances.
    variance = informative_groups * group_size * (1 + (group_size - 1) * correlation)
    coefficients = direction[members] / np.sqrt(variance)
    signal = linear(inputs, coefficients)
    errors = number("noise", noise, 0) * normal(stream(*key, "noise"), rows)
    return Source(
        task="regression",
        numeric=inputs,
        numeric_names=tuple(f"group_{group}_x_{i % group_size}" for i, group in enumerate(members)),
        targets=signal + errors,
        expected=signal,
        target_names=("y",),
        coefficients=coefficients,
        relevant=coefficients != 0,
        feature_groups=members.astype(np.int64),
    )
