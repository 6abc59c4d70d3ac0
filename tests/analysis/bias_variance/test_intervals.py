"""Intervals of bias, variance and risk: how often they hold the truth, against simulation."""

import numpy as np
import pytest
import scipy.stats

from reglab.analysis.bias_variance.intervals import Estimates, numbers
from reglab.analysis.bias_variance.pairs import Floats, restricted
from reglab.analysis.bias_variance.squared_error import squared_error

RANDOM = np.random.default_rng(1)
WEIGHT, SIZE, RUNS, ROWS, STRENGTH = np.array([0.6, -0.4, 0.2, 0.1]), 20, 10, 60, 4.0


def trained(repeats: int) -> Floats:
    """Return the weights of ridge from fresh samples, ``[repeats, 4]``."""
    inputs = RANDOM.normal(size=(repeats, SIZE, 4))
    targets = inputs @ WEIGHT + RANDOM.normal(size=(repeats, SIZE))
    gram = np.einsum("rij,rik->rjk", inputs, inputs) + STRENGTH * np.eye(4)
    return np.linalg.solve(gram, np.einsum("rij,ri->rj", inputs, targets)[..., None])[..., 0]


def test_they_hold_the_truth_as_often_as_they_say() -> None:
    many = trained(200_000)
    bias, variance = ((many.mean(0) - WEIGHT) ** 2).sum(), many.var(0).sum()
    truth = {"bias": bias, "variance": variance, "risk": bias + variance + 1}
    levels = {"sample": np.arange(RUNS)}
    held = dict.fromkeys(truth, 0)
    simulations = 300
    for _ in range(simulations):
        new = RANDOM.normal(size=(ROWS, 4))
        predicted, expected = (trained(RUNS) @ new.T)[..., None], (new @ WEIGHT)[:, None]
        targets = expected + RANDOM.normal(size=(ROWS, 1))

        def by_row(kept: Floats) -> dict[str, Floats]:
            parts = squared_error(predicted[kept], targets, restricted(levels, kept), expected)  # noqa: B023
            return {"bias": parts.bias, "variance": parts.variance, "risk": parts.risk}

        found = numbers(
            Estimates(by_row(np.ones(RUNS, dtype=bool)), by_row), levels, None, 0.95, frozenset({"variance"})
        )
        for name, right in truth.items():
            held[name] += found[name].low <= right <= found[name].high
    # 300 simulations of 95% hold 270 or more in all but one of 10,000 cases.
    assert all(count >= 270 for count in held.values()), held


def test_over_rows_alone_it_is_students() -> None:
    rows = RANDOM.normal(size=40)
    (found,) = numbers(Estimates({"mean": rows}, dict), {}, None, 0.9).values()
    low, high = scipy.stats.t.interval(0.9, 39, rows.mean(), scipy.stats.sem(rows))
    assert (found.value, found.low, found.high) == pytest.approx((rows.mean(), low, high))


def test_over_runs_alone_it_is_students() -> None:
    runs = RANDOM.normal(size=12)
    estimates = Estimates({"mean": np.full(3, runs.mean())}, lambda kept: {"mean": np.full(3, runs[kept].mean())})
    (found,) = numbers(estimates, {"sample": np.arange(12)}, None, 0.95).values()
    low, high = scipy.stats.t.interval(0.95, 11, runs.mean(), scipy.stats.sem(runs))
    assert (found.low, found.high) == pytest.approx((low, high))


def test_two_levels_have_no_interval() -> None:
    estimates = Estimates({"mean": np.ones(3)}, lambda _: {"mean": np.ones(3)})
    (found,) = numbers(estimates, {"sample": np.arange(2)}, None, 0.95).values()
    assert np.isnan(found.low)
    assert np.isnan(found.high)


def test_weights_count_rows() -> None:
    """Rows of weight 0 are as if they were not there."""
    rows = RANDOM.normal(size=30)
    weights = np.repeat([1.0, 0.0], [20, 10])
    whole = numbers(Estimates({"mean": rows}, dict), {}, weights, 0.95)["mean"]
    assert whole.value == pytest.approx(rows[:20].mean())
    few = numbers(Estimates({"mean": rows[:20]}, dict), {}, None, 0.95)["mean"]
    assert whole.high - whole.low == pytest.approx(few.high - few.low, rel=0.05)
