"""Power laws that are known: they are found, and the interval at twice the rows holds what they have there."""

import math

import numpy as np
import pytest
from scipy.optimize import least_squares

from reglab.analysis.learning_curve import learning_curve
from reglab.core.errors import UserError

SIZES = np.array([50, 100, 200, 400, 800])


def law(rows, floor=0.1, scale=5.0, exponent=0.5):
    return floor + scale * np.asarray(rows, dtype=float) ** -exponent


def drawn(random, seeds, noise, common=0.0):
    rows, own = np.repeat(SIZES, seeds), np.tile(np.arange(seeds), len(SIZES))
    each = noise * random.normal(size=len(rows)) + common * random.normal(size=seeds)[own]
    return rows, law(rows) * (1 + each), own


def test_a_law_without_noise_is_found():
    found = learning_curve(SIZES, law(SIZES), np.zeros(5))
    assert found.exponent == pytest.approx(0.5, rel=0.05)
    assert found(300) == pytest.approx(law(300), rel=2e-3)
    assert found.twice.value == pytest.approx(law(1600), rel=5e-3)
    assert found.twice.low <= law(1600) * 1.005
    assert found.twice.high >= law(1600) * 0.995
    assert (found.least, found.most, found.twice.rows) == (50, 800, 1600)
    assert found(found.rows_for(0.4)) == pytest.approx(0.4)
    assert found.rows_for(found.floor) == math.inf


def test_the_fit_is_that_of_scipy():
    rows, losses, seeds = drawn(np.random.default_rng(3), 3, 0.03)
    found = learning_curve(rows, losses, seeds)
    means = np.array([losses[rows == size].mean() for size in rows])
    best = least_squares(lambda p: (losses - law(rows, *p)) / means, (0.1, 5.0, 0.5), bounds=(0, np.inf), x_scale="jac")
    own = ((losses - [found(size) for size in rows]) / means) @ ((losses - [found(size) for size in rows]) / means)
    assert own <= 2 * best.cost * 1.002
    assert found.twice.value == pytest.approx(law(1600, *best.x), rel=0.01)


@pytest.mark.parametrize("seeds, noise, common", [(3, 0.02, 0.0), (3, 0.02, 0.05), (2, 0.05, 0.0), (5, 0.1, 0.0)])
def test_the_interval_at_twice_the_rows_covers(seeds, noise, common):
    random = np.random.default_rng(1)
    found = [learning_curve(*drawn(random, seeds, noise, common)).twice for _ in range(40)]
    assert np.mean([each.low <= law(1600) <= each.high for each in found]) >= 0.85  # 0.95 less three standard errors
    assert np.median([each.high - each.low for each in found]) < law(1600) * (0.05 + 10 * (noise + common))


def test_more_seeds_narrow_the_interval_and_a_higher_level_widens_it():
    random = np.random.default_rng(2)
    rows, losses, seeds = drawn(random, 12, 0.05)
    few = seeds < 3
    widths = [
        each.twice.high - each.twice.low
        for each in (
            learning_curve(rows, losses, seeds),
            learning_curve(rows[few], losses[few], seeds[few]),
            learning_curve(rows[few], losses[few], seeds[few], 0.99),
        )
    ]
    assert widths == sorted(widths)


def test_a_loss_that_does_not_fall_stays_where_it_is():
    found = learning_curve(np.repeat(SIZES, 2), np.tile([0.5, 0.52], 5), np.tile([0, 1], 5))
    assert found.twice.value == pytest.approx(0.51, rel=0.02)
    assert found.twice.low < 0.51 < found.twice.high


@pytest.mark.parametrize(
    "rows, losses, message",
    [
        ([50, 100, 200, 200], [1, 1, 1, 1], "at least 4 different data.train_size, got 3"),
        ([50, 100, 200, 400], [1, 1, 1, math.nan], "finite and not below 0"),
        ([50, 100, 200, 400], [1, 1, 1, -1], "finite and not below 0"),
    ],
)
def test_what_cannot_be_fitted_is_refused(rows, losses, message):
    with pytest.raises(UserError, match=message):
        learning_curve(rows, losses, np.zeros(4))
