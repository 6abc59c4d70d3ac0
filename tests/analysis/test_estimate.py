import math

import numpy as np
import pytest
import scipy.stats

from reglab.analysis.estimate import estimate, joint_interval


def simulated_runs(rng, splits, seeds, examples, example_noise, seed_noise):
    """Return each run's mean loss, its standard error and split; the true mean is 0."""
    shared = rng.normal(0, example_noise, (splits, 1, examples))  # by the runs of a split
    losses = shared + rng.normal(0, seed_noise, (splits, seeds, 1))
    means, errors = losses.mean(2).ravel(), losses.std(2, ddof=1).ravel() / math.sqrt(examples)
    return list(means), list(errors), [f"fold {split}" for split in range(splits) for _ in range(seeds)]


NOISE = [
    pytest.param(1, 3, 1.0, 0.0, id="seeds, noisy examples"),
    pytest.param(1, 3, 0.0, 0.1, id="seeds, noisy seeds"),
    pytest.param(1, 3, 1.0, 0.1, id="seeds"),
    pytest.param(5, 1, 1.0, 0.0, id="folds, noisy examples"),
    pytest.param(5, 1, 1.0, 0.1, id="folds"),
    pytest.param(4, 3, 1.0, 0.0, id="folds x seeds, noisy examples"),
    pytest.param(4, 3, 0.0, 0.1, id="folds x seeds, noisy seeds"),
    pytest.param(4, 3, 1.0, 0.1, id="folds x seeds"),
]


@pytest.mark.parametrize("splits, seeds, example_noise, seed_noise", NOISE)
def test_standard_error_is_the_spread_of_the_mean_in_simulation(splits, seeds, example_noise, seed_noise):
    rng = np.random.default_rng(0)
    results = [estimate(*simulated_runs(rng, splits, seeds, 50, example_noise, seed_noise)) for _ in range(3000)]
    truth = example_noise**2 / (splits * 50) + seed_noise**2 / (splits * seeds)
    assert np.var([result.mean for result in results]) == pytest.approx(truth, rel=0.1)
    assert np.mean([result.error**2 for result in results]) == pytest.approx(truth, rel=0.1)


def test_runs_on_one_split_keep_its_example_noise():
    assert estimate([1.0, 1.0], [0.2, 0.2], ["a", "a"]).error == pytest.approx(0.2)


def test_a_split_that_lost_a_seed_counts_as_much_as_the_others():
    result = estimate([1.0, 3.0, 4.0], [], ["a", "a", "b"])
    assert (result.mean, result.error) == pytest.approx((3.0, scipy.stats.sem([2.0, 4.0])))


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


def coverage(rng, repeats, *case):
    """Return how often the interval holds the true mean."""
    covered = []
    for _ in range(repeats):
        means, errors, splits = simulated_runs(rng, *case)
        sides = [[m + side * 1.96 * e for m, e in zip(means, errors, strict=True)] for side in (-1, 1)]
        interval = joint_interval(means, *sides, splits)
        covered.append(interval.low <= 0 <= interval.high)
    return np.mean(covered)


@pytest.mark.parametrize("example_noise, seed_noise", [(1.0, 0.02), (1.0, 0.3), (0.1, 0.3)])
def test_interval_covers_at_least_at_its_nominal_rate(example_noise, seed_noise):
    assert 0.94 <= coverage(np.random.default_rng(1), 2000, 1, 3, 60, example_noise, seed_noise) <= 0.995


@pytest.mark.parametrize("splits, seeds", [(5, 1), (3, 2)])
def test_interval_over_folds_covers_at_its_nominal_rate(splits, seeds):
    assert coverage(np.random.default_rng(1), 2000, splits, seeds, 60, 1.0, 0.2) == pytest.approx(0.95, abs=0.015)


def test_interval_over_folds_is_students_over_their_means():
    values, splits = [0.2, 0.4, 0.5, 0.5, 0.1, 0.3], ["a", "a", "b", "b", "c", "c"]
    interval = joint_interval(values, [0.0] * 6, [9.0] * 6, splits)
    means = [0.3, 0.5, 0.2]
    low, high = scipy.stats.t.interval(0.95, 2, np.mean(means), scipy.stats.sem(means))
    assert (interval.low, interval.high) == pytest.approx((low, high))


def test_the_level_is_that_of_the_runs():
    values = [0.3, 0.5, 0.45, 0.2]
    interval = joint_interval(values, values, values, level=0.8)
    low, high = scipy.stats.t.interval(0.8, 3, np.mean(values), scipy.stats.sem(values))
    assert (interval.low, interval.high) == pytest.approx((low, high))
