import math

import numpy as np
import pytest

from reglab.analysis.paired import Scored, difference


def scored(noise, repeats=None, rows=None):
    noise = np.asarray(noise, dtype=float)
    rows = np.arange(noise.shape[1]) if rows is None else rows
    return Scored(tuple(repeats or range(len(noise))), rows, noise.mean(1), noise)


def both(seed, runs=3, rows=40):
    draw = np.random.default_rng(seed)
    shared = draw.lognormal(size=rows)
    return [draw.normal(size=(runs, rows)) + shared + k for k in range(2)]


def test_the_error_is_that_of_examples_and_seeds_crossed_by_a_loop_over_both():
    first, second = both(0)
    actual = difference({"": scored(first)}, {"": scored(second)})
    apart = [[first[s][i] - second[s][i] for i in range(40)] for s in range(3)]
    rows = [sum(apart[s][i] for s in range(3)) / 3 for i in range(40)]
    seeds = [sum(apart[s]) / 40 for s in range(3)]
    mean = sum(seeds) / 3
    of_rows = sum((value - mean) ** 2 for value in rows) / 39 / 40
    of_seeds = sum((value - mean) ** 2 for value in seeds) / 2 / 3
    assert actual.mean == pytest.approx(mean)
    assert actual.error == pytest.approx(math.sqrt(of_rows + of_seeds))
    assert actual.freedom == pytest.approx((of_rows + of_seeds) ** 2 / (of_rows**2 / 39 + of_seeds**2 / 2))


def test_what_rows_and_seeds_do_to_both_sides_cancels():
    first, _ = both(1)
    draw = np.random.default_rng(7)
    hard_rows, lucky_seeds = draw.normal(size=40) * 100, draw.normal(size=(3, 1)) * 100
    actual = difference(
        {"": scored(first + hard_rows + lucky_seeds)}, {"": scored(hard_rows + lucky_seeds + 0 * first)}
    )
    solo = difference({"": scored(first)}, {"": scored(0 * first)})
    assert actual.error == pytest.approx(solo.error, rel=1e-6)


def test_runs_are_paired_by_their_seed_not_by_their_place():
    first, second = both(2)
    actual = difference({"": scored(first, "abc")}, {"": scored(second[[2, 0, 1]], "cab")})
    assert actual == difference({"": scored(first)}, {"": scored(second)})


def test_settings_without_a_common_seed_are_paired_over_the_rows():
    first, second = both(3)
    actual = difference({"": scored(first, "abc")}, {"": scored(second, "def")})
    of_rows = np.var(first.mean(0) - second.mean(0), ddof=1) / 40
    of_seeds = sum(np.var(side.mean(1), ddof=1) / 3 for side in (first, second))
    assert actual.error == pytest.approx(math.sqrt(of_rows + of_seeds))


def test_other_rows_cannot_be_paired():
    first, second = both(4)
    assert difference({"": scored(first)}, {"": scored(second, rows=np.arange(1, 41))}) is None
    assert difference({"a": scored(first)}, {"b": scored(second)}) is None


def test_folds_are_compared_fold_by_fold():
    folds = [both(10 + fold, runs=1, rows=20 + fold) for fold in range(4)]
    actual = difference(*({fold: scored(pair[side]) for fold, pair in enumerate(folds)} for side in range(2)))
    means = [float((first - second).mean()) for first, second in folds]
    mean = sum(means) / 4
    assert actual.mean == pytest.approx(mean)
    assert actual.error == pytest.approx(math.sqrt(sum((one - mean) ** 2 for one in means) / 3 / 4))
    assert actual.freedom == 3


def test_one_seed_leaves_the_error_over_examples():
    first, second = both(5, runs=1)
    actual = difference({"": scored(first)}, {"": scored(second)})
    assert (actual.seeds, actual.freedom) == (1, 39)
    assert actual.error == pytest.approx(float((first - second).std(ddof=1)) / math.sqrt(40))


def test_equal_settings_do_not_differ():
    first, _ = both(6)
    actual = difference({"": scored(first)}, {"": scored(first)})
    assert (actual.mean, actual.error, actual.t, actual.p) == (0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize("seeds, rows", [(1, 60), (3, 60), (5, 200)])
def test_the_interval_covers_the_true_difference(seeds, rows):
    """400 draws of rows, seeds and interaction: a 95% interval must cover 93 to 98%."""
    draw, covered = np.random.default_rng(seeds), 0
    for _ in range(400):
        own = 0.3 * draw.normal(size=rows) + 0.02 * draw.normal(size=(seeds, 1)) * (seeds > 1)
        noise = 0.2 * draw.normal(size=(2, seeds, rows))
        hard = draw.lognormal(size=rows)
        actual = difference({"": scored(hard + own + 0.1 + noise[0])}, {"": scored(hard + noise[1])})
        low, high = actual.interval()
        covered += low <= 0.1 <= high
    assert 0.93 <= covered / 400 <= 0.99
