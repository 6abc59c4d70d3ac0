import math

import numpy as np
import pytest
import scipy.stats

from reglab.sweeps.estimate import estimate, joint_interval


def simulated_runs(rng, runs, examples, example_noise, seed_noise):
    """Return each run's mean loss over shared examples and the standard error it would report."""
    shared = rng.normal(0, example_noise, examples)
    losses = shared + rng.normal(0, seed_noise, (runs, 1))
    return losses.mean(1), losses.std(1, ddof=1) / math.sqrt(examples)


@pytest.mark.parametrize("example_noise, seed_noise", [(1.0, 0.0), (0.0, 0.1), (1.0, 0.1)])
def test_standard_error_is_the_spread_of_the_mean_in_simulation(example_noise, seed_noise):
    rng = np.random.default_rng(0)
    results = [
        estimate(list(means), list(errors))
        for means, errors in (simulated_runs(rng, 3, 50, example_noise, seed_noise) for _ in range(3000))
    ]
    spread = np.var([result.mean for result in results])
    assert np.mean([result.error**2 for result in results]) == pytest.approx(spread, rel=0.1)


def test_different_folds_average_example_noise():
    assert estimate([1.0, 1.0], [0.2, 0.2], splits=2).error == pytest.approx(0.2 / math.sqrt(2))
    assert estimate([1.0, 1.0], [0.2, 0.2], splits=1).error == pytest.approx(0.2)


def test_one_run_knows_nothing_of_seeds():
    result = estimate([0.5], [0.1])
    assert result.error == pytest.approx(0.1)
    assert math.isnan(result.deviation)


def test_an_estimate_needs_a_run():
    with pytest.raises(ValueError, match="at least one run"):
        estimate([])


def test_interval_without_example_noise_is_students():
    values = [0.3, 0.5, 0.45, 0.2]
    interval = joint_interval(values, values, values)
    low, high = scipy.stats.t.interval(0.95, 3, np.mean(values), scipy.stats.sem(values))
    assert (interval.low, interval.high) == pytest.approx((low, high))


def test_interval_of_one_run_is_its_own():
    interval = joint_interval([0.5], [0.42], [0.61])
    assert (interval.mean, interval.low, interval.high) == pytest.approx((0.5, 0.42, 0.61))


def test_interval_is_unknown_where_a_run_has_none():
    assert math.isnan(joint_interval([0.5, 0.6], [], []).low)


@pytest.mark.parametrize("example_noise, seed_noise", [(1.0, 0.02), (1.0, 0.3), (0.1, 0.3)])
def test_interval_covers_at_least_at_its_nominal_rate(example_noise, seed_noise):
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(2000):
        means, errors = simulated_runs(rng, 3, 60, example_noise, seed_noise)
        interval = joint_interval(list(means), list(means - 1.96 * errors), list(means + 1.96 * errors))
        covered.append(interval.low <= 0 <= interval.high)
    assert 0.94 <= np.mean(covered) <= 0.995


def test_the_level_is_that_of_the_runs():
    values = [0.3, 0.5, 0.45, 0.2]
    interval = joint_interval(values, values, values, level=0.8)
    low, high = scipy.stats.t.interval(0.8, 3, np.mean(values), scipy.stats.sem(values))
    assert (interval.low, interval.high) == pytest.approx((low, high))
