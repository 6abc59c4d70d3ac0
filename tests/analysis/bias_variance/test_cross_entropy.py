"""Cross-entropy = bias and noise + variance, as divergences; the jackknife against the expectation."""

import numpy as np
import scipy.stats
from scipy.special import log_softmax, softmax

from reglab.analysis.bias_variance.cross_entropy import cross_entropy, jackknifed_variance, plug_in_variance
from reglab.analysis.bias_variance.pairs import Floats

RANDOM = np.random.default_rng(0)


def log_probabilities(runs: int, rows: int = 6, classes: int = 4, spread: float = 1.5) -> Floats:
    return log_softmax(spread * RANDOM.normal(size=(runs, rows, 1, classes)), axis=-1)


def test_the_central_prediction_is_nearest_to_all_and_the_rest_is_its_divergence() -> None:
    logs, targets = log_probabilities(9), RANDOM.integers(0, 4, size=(6, 1))
    each = logs[:, :, 0]
    central = softmax(each.mean(0), axis=-1)
    divergence = scipy.stats.entropy(np.broadcast_to(central, each.shape), np.exp(each), axis=-1).mean(0)
    np.testing.assert_allclose(plug_in_variance(logs.mean(0)), divergence, atol=1e-12)
    for moved in (central**1.1, central**0.9):
        other = moved / moved.sum(-1, keepdims=True)
        assert (
            scipy.stats.entropy(np.broadcast_to(other, each.shape), np.exp(each), axis=-1).mean(0) > divergence
        ).all()
    loss = -np.log(np.take_along_axis(central, targets, -1)[:, 0]) + divergence
    found = cross_entropy(logs, targets, {"sample": np.arange(9)})
    np.testing.assert_allclose(found.risk, loss, atol=1e-12)
    np.testing.assert_allclose(found.bias + found.variance, found.risk, atol=1e-12)


def test_the_jackknife_is_that_of_its_definition() -> None:
    logs = log_probabilities(5)
    whole = plug_in_variance(logs.mean(0))
    without = [plug_in_variance(np.delete(logs, run, 0).mean(0)) for run in range(5)]
    np.testing.assert_allclose(
        jackknifed_variance(logs, {"sample": np.arange(5)}), 5 * whole - 4 * np.mean(without, axis=0), atol=1e-12
    )


def test_the_jackknife_removes_what_few_samples_hide() -> None:
    """Of 5 samples, over 20,000 rows alike: the plug-in variance lacks a fifth, the jackknifed one under 2%."""
    right = plug_in_variance(log_probabilities(200_000, rows=1).mean(0))[0]
    few = log_probabilities(5, rows=20_000)
    assert plug_in_variance(few.mean(0)).mean() < 0.85 * right
    assert abs(jackknifed_variance(few, {"sample": np.arange(5)}).mean() / right - 1) < 0.02


def test_equal_runs_have_no_variance() -> None:
    logs = np.repeat(log_probabilities(1), 4, axis=0)
    np.testing.assert_allclose(jackknifed_variance(logs, {"sample": np.arange(4)}), 0, atol=1e-12)
