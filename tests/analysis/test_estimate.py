import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from reglab.analysis.estimate import estimate, joint_interval
from reglab.analysis.trial import Candidate, Trial

BASE = Trial("a", "l2", "l2", 1.0, 1, 0, {}, {}, "FINISHED")


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


@pytest.mark.parametrize(
    ("key", "values", "low", "high"),
    [
        ("test/accuracy", (0.94, 0.92), -np.inf, 1),
        ("test/accuracy", (0.02, 0.03), 0, np.inf),
        ("val/price/r2", (0.97, 0.9), -np.inf, 1),
        ("gap/accuracy", (0.6, 0.9), -1, 1),
        ("test/rmse", (1.0, 2.0), 0, np.inf),
        ("test/kappa", (-0.9, -0.5), -1, 1),
        ("test/brier", (1.9, 1.8), -np.inf, 2),
    ],
)
def test_a_mean_over_two_seeds_stays_within_what_the_metric_can_be(key, values, low, high):
    """Student's interval of two values, by SciPy, cut at the bounds that are given here."""
    trials = tuple(
        replace(BASE, seed=seed, metrics={key: value, f"{key}_low": value, f"{key}_high": value})
        for seed, value in enumerate(values)
    )
    found = Candidate("l2", "l2", 1.0, 1, "l2 1", trials).interval(key)
    wide = scipy.stats.t.interval(0.95, 1, np.mean(values), scipy.stats.sem(values))
    assert wide[0] < low or wide[1] > high
    assert (found.low, found.high) == pytest.approx((max(wide[0], low), min(wide[1], high)))
    assert found.mean == pytest.approx(np.mean(values))


@pytest.mark.parametrize("key", ["test/loss", "test/own_score", "gap/r2"])
def test_what_has_no_bounds_is_not_cut(key):
    metrics = [{key: value, f"{key}_low": value, f"{key}_high": value} for value in (0.2, 0.9)]
    trials = tuple(replace(BASE, seed=seed, metrics=each) for seed, each in enumerate(metrics))
    found = Candidate("l2", "l2", 1.0, 1, "l2 1", trials).interval(key)
    assert (found.low, found.high) == pytest.approx(scipy.stats.t.interval(0.95, 1, 0.55, 0.35))


def test_an_interval_that_is_not_known_stays_so():
    trial = replace(BASE, metrics={"test/accuracy": 0.5})
    assert math.isnan(Candidate("l2", "l2", 1.0, 1, "l2 1", (trial,)).interval("test/accuracy").high)
