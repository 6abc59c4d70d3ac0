"""Curves whose turn is known: when overfitting began is found, and is not where it did not begin."""

import math

import numpy as np
import pytest

from reglab.analysis.onset import LEAST_EPOCHS, onset, onset_of_runs

EPOCHS = np.arange(31)
TURN = 12
FALLING = 0.4 + 1.9 * np.exp(-EPOCHS / 2.5)
TURNING = 0.5 + 0.03 * np.maximum(TURN - EPOCHS, 0) + 0.01 * np.maximum(EPOCHS - TURN, 0)


def noise(seed, size=0.01, correlation=0.5):
    random = np.random.default_rng(seed)
    found = [random.normal()]
    for _ in EPOCHS[1:]:
        found.append(correlation * found[-1] + math.sqrt(1 - correlation**2) * random.normal())
    return size * np.array(found)


def test_the_interval_holds_the_turn():
    found = [onset(EPOCHS, TURNING + noise(seed)) for seed in range(25)]
    seen = [each for each in found if each.seen]
    assert len(seen) >= 23
    assert np.mean([each.low <= TURN <= each.high for each in seen]) > 0.9
    assert np.mean([each.epoch for each in seen]) == pytest.approx(TURN, abs=1)
    assert np.mean([each.rise for each in seen]) == pytest.approx(0.18, abs=0.02)
    assert max(each.high - each.low for each in seen) < 15


def test_a_smooth_turn_after_a_steep_fall_is_found():
    curve = FALLING + 0.01 * EPOCHS
    lowest = 2.5 * math.log(1.9 / 2.5 / 0.01)
    found = [onset(EPOCHS, curve + noise(seed, 0.003)) for seed in range(10)]
    assert all(each.seen for each in found)
    assert np.mean([each.low <= lowest <= each.high for each in found]) > 0.8


@pytest.mark.parametrize("curve", [FALLING, 1 - 0.02 * EPOCHS, np.full(31, 0.5)], ids=["stays", "falls", "constant"])
def test_where_the_loss_does_not_rise_none_is_seen(curve):
    found = [onset(EPOCHS, curve + noise(seed)) for seed in range(30)]
    assert np.mean([each.seen for each in found]) <= 0.15
    assert all(math.isnan(each.epoch) for each in found if not each.seen)


def test_too_few_epochs_and_losses_that_are_not_finite_have_no_answer():
    short = onset(EPOCHS[: LEAST_EPOCHS - 1], TURNING[: LEAST_EPOCHS - 1])
    broken = onset(EPOCHS, np.where(EPOCHS == 3, np.nan, TURNING))
    for each in (short, broken, onset([], [])):
        assert not each.seen
        assert math.isnan(each.p)


def test_a_curve_without_noise_and_one_that_is_all_alike():
    found = onset(EPOCHS, TURNING)
    assert (found.seen, found.epoch) == (True, TURN)
    assert not onset(EPOCHS, np.ones(31)).seen


def test_the_unit_of_the_loss_and_the_numbers_of_the_epochs_do_not_matter():
    curve = TURNING + noise(0)
    one, other = onset(EPOCHS, curve), onset(10 * EPOCHS, 1e-3 * curve)
    assert other.epoch == pytest.approx(10 * one.epoch)
    assert (other.low, other.high) == pytest.approx((10 * one.low, 10 * one.high))
    assert other.rise == pytest.approx(1e-3 * one.rise)


def test_a_long_rise_after_a_short_fall_is_seen_and_a_loss_that_is_lowest_at_the_end_is_none():
    long = np.arange(301)
    found = onset(
        long, 0.4 + 1.9 * np.exp(-long / 5) + 0.001 * long + 0.005 * np.random.default_rng(0).normal(size=301)
    )
    assert found.seen
    assert found.low <= 5 * math.log(1.9 / 5 / 0.001) <= found.high
    falling = onset(EPOCHS, 1 - 0.02 * EPOCHS)
    assert (falling.seen, falling.p) == (False, 1.0)


def test_over_runs_the_interval_is_of_their_mean():
    runs = [(EPOCHS, TURNING + noise(seed)) for seed in range(4)]
    each = [onset(*run) for run in runs]
    values = [found.epoch for found in each]
    found = onset_of_runs(runs)
    assert (found.seen, found.runs, found.told, found.epoch) == (4, 4, 4, pytest.approx(np.mean(values)))
    assert found.high - found.epoch == pytest.approx(3.182446 * np.std(values, ddof=1) / 2)  # t of 3, 0.975
    alone = onset_of_runs([*runs[:1], (EPOCHS, 1 - 0.02 * EPOCHS)])
    assert (alone.seen, alone.runs, alone.low, alone.high) == (1, 2, each[0].low, each[0].high)
    none = onset_of_runs([(EPOCHS, 1 - 0.02 * EPOCHS)])
    assert (none.seen, none.runs, none.told) == (0, 1, 1)
    assert onset_of_runs([(EPOCHS[:5], TURNING[:5])]).told == 0
