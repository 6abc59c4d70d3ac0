"""Squared error = bias^2 + variance + noise: against closed forms of ridge, enumeration and numpy."""

from itertools import product

import numpy as np
import pytest

from reglab.analysis.bias_variance.pairs import Floats, clusters, pair_means, restricted, varying
from reglab.analysis.bias_variance.squared_error import squared_error
from reglab.core.errors import UserError

RANDOM = np.random.default_rng(0)


def ridge(strength: float) -> tuple[Floats, Floats, Floats]:
    """Return the hat matrix of new rows, their expected targets and those of the training rows."""
    train, new, truth = RANDOM.normal(size=(8, 3)), RANDOM.normal(size=(5, 3)), np.array([1.0, -2.0, 0.5])
    hat = new @ np.linalg.solve(train.T @ train + strength * np.eye(3), train.T)
    return hat, new @ truth, train @ truth


@pytest.mark.parametrize("strength", [0.0, 0.3, 10.0])
def test_ridge_has_its_closed_form_bias_and_variance_on_average(strength: float) -> None:
    """Fixed design; the noise of each training target is -1 or 1: of all 2^8 equally likely samples, the mean of the
    estimates over all pairs is their expectation. Those of unequal pairs are what 256 runs give; a sample that is drawn
    twice has variance 0, and its squared error for a bias."""
    hat, expected, mean = ridge(strength)
    samples = np.array(list(product([-1.0, 1.0], repeat=8)))
    predicted = (mean + samples) @ hat.T
    found = squared_error(predicted[..., None], expected[:, None], {"sample": np.arange(256)}, expected[:, None])
    np.testing.assert_allclose((255 * found.bias + found.risk) / 256, (hat @ mean - expected) ** 2, atol=1e-10)
    np.testing.assert_allclose(255 * found.variance / 256, (hat**2).sum(1), atol=1e-10)


def test_it_is_numpys_variance_and_adds_up_to_the_risk() -> None:
    predicted, targets = RANDOM.normal(size=(7, 30, 2)), RANDOM.normal(size=(30, 2))
    found = squared_error(predicted, targets, {"replica": np.arange(7)})
    np.testing.assert_allclose(found.variance, predicted.var(0, ddof=1).mean(-1), atol=1e-12)
    np.testing.assert_allclose(found.bias + found.variance, found.risk, atol=1e-12)
    np.testing.assert_allclose(found.risk, ((predicted - targets) ** 2).mean((0, 2)), atol=1e-12)
    assert found.noise is None
    assert not found.sources


def test_noise_stands_apart_where_the_expected_targets_are_known() -> None:
    predicted, expected = RANDOM.normal(size=(5, 40, 1)), RANDOM.normal(size=(40, 1))
    targets = expected + 0.3 * RANDOM.normal(size=(40, 1))
    found = squared_error(predicted, targets, {"replica": np.arange(5)}, expected)
    without = squared_error(predicted, expected, {"replica": np.arange(5)})
    np.testing.assert_allclose(found.bias, without.bias, atol=1e-12)
    np.testing.assert_allclose(found.noise, ((targets - expected) ** 2)[:, 0], atol=1e-12)


def test_the_variance_of_a_crossed_design_is_that_of_its_effects() -> None:
    """Two-way random effects, of which the mean squares are known (Searle 1971)."""
    samples, seeds = 6, 4
    values = (
        RANDOM.normal(size=(samples, 1)) + 0.5 * RANDOM.normal(size=(1, seeds)) + RANDOM.normal(size=(samples, seeds))
    )
    rows, columns, whole = values.mean(1, keepdims=True), values.mean(0, keepdims=True), values.mean()
    residual = ((values - rows - columns + whole) ** 2).sum() / ((samples - 1) * (seeds - 1))
    of_samples = (seeds * rows.var(ddof=1) - residual) / seeds
    of_seeds = (samples * columns.var(ddof=1) - residual) / samples
    levels = {"sample": np.repeat(np.arange(samples), seeds), "seed": np.tile(np.arange(seeds), samples)}
    found = squared_error(values.reshape(-1, 1, 1), np.zeros((1, 1)), levels)
    assert list(found.sources) == ["sample", "seed", "interactions"]
    np.testing.assert_allclose([part[0] for part in found.sources.values()], [of_samples, of_seeds, residual])
    np.testing.assert_allclose(found.variance, of_samples + of_seeds + residual)


def test_seeds_of_their_own_in_each_sample_are_the_rest() -> None:
    """One-way random effects: within and between (Searle 1971)."""
    samples, seeds = 5, 3
    values = RANDOM.normal(size=(samples, 1)) + RANDOM.normal(size=(samples, seeds))
    within = values.var(1, ddof=1).mean()
    between = values.mean(1).var(ddof=1) - within / seeds
    levels = {"sample": np.repeat(np.arange(samples), seeds), "seed": np.arange(samples * seeds)}
    found = squared_error(values.reshape(-1, 1, 1), np.zeros((1, 1)), levels)
    np.testing.assert_allclose([part[0] for part in found.sources.values()], [between, within])
    assert list(clusters(levels)) == ["sample"]


def test_pairs_of_three_factors_share_what_a_loop_says() -> None:
    levels = {name: RANDOM.integers(0, 3, 12) for name in "abc"}
    values = RANDOM.normal(size=(12, 4))
    sums: dict[frozenset[str], list[Floats]] = {}
    for one, other in product(range(12), repeat=2):
        if one != other:
            shared = frozenset(name for name, each in levels.items() if each[one] == each[other])
            sums.setdefault(shared, []).append(values[one] * values[other])
    found = pair_means(values, levels)
    assert found.keys() == sums.keys()
    for shared, products in sums.items():
        np.testing.assert_allclose(found[shared], np.mean(products, axis=0))


def test_runs_that_all_share_something_have_no_variance() -> None:
    with pytest.raises(UserError, match="every two of the runs that are there share"):
        squared_error(RANDOM.normal(size=(3, 2, 1)), np.zeros((2, 1)), {"sample": np.zeros(3, dtype=np.int64)})


def test_factors_that_do_not_vary_or_vary_together_count_once() -> None:
    levels = varying({"sample": ["0", "1", "2"], "seed": ["0", "1", "2"], "init": ["7", "7", "7"]})
    assert list(levels) == ["sample", "seed"]
    assert list(clusters(levels)) == ["sample"]
    assert restricted(levels, np.array([True, False, False])) == {}
