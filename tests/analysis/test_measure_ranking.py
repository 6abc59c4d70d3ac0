"""Rankings of measures against SciPy's tau, loops over pairs, and a Simpson case."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from reglab.analysis.measure_ranking import Ranked, kendall, rank_measures
from reglab.analysis.trial import Trial
from reglab.core.errors import UserError


def trial(number, params, metrics, seed=0, status="FINISHED"):
    own = {key: str(value) for key, value in {**params, "seed": seed}.items()}
    return Trial(str(number), "l2", "l2", None, 1, seed, metrics, own, status)


def grid(metrics, seeds=3, widths=(8, 16, 32), rates=(0.1, 0.2, 0.4)):
    """Return runs over widths, rates and seeds, whose metrics are functions of their numbers."""
    runs = itertools.product(range(len(widths)), range(len(rates)), range(seeds))
    return [
        trial(number, {"model.width": widths[w], "optimizer.lr": rates[r]}, metrics(w, r, s), s)
        for number, (w, r, s) in enumerate(runs)
    ]


def found(trials, name) -> Ranked:
    return next(each for each in rank_measures(trials).ranked if each.name == name)


def drawn(seed):
    generator = np.random.default_rng(seed)
    return lambda w, r, s: {
        "gap/loss": w + 0.3 * r + 0.1 * s + 0.05 * generator.normal(),
        "own/noise": generator.normal(),
        "own/coarse": float(generator.integers(0, 3)),
    }


def test_tau_is_scipys_with_ties_and_in_resamples():
    generator = np.random.default_rng(0)
    first, second = generator.integers(0, 5, 30).astype(float), generator.normal(size=30)
    assert kendall(first, second)[0] == pytest.approx(scipy.stats.kendalltau(first, second).statistic, rel=1e-12)
    drawn = generator.integers(0, 30, 30)
    counts = np.bincount(drawn, minlength=30)[None].astype(float)
    expected = scipy.stats.kendalltau(first[drawn], second[drawn]).statistic
    assert kendall(first, second, counts)[0] == pytest.approx(expected, rel=1e-12)


def test_a_group_drawn_twice_is_not_compared_with_itself():
    generator = np.random.default_rng(3)
    first, second = generator.normal(size=(2, 6))
    groups, counts = np.array([0, 0, 1, 1, 2, 2]), np.array([[2.0, 2, 1, 1, 0, 0]])
    agreed = pairs = 0
    copies = [(0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (3, 0)]  # run and copy
    for (one, copy), (two, other) in itertools.combinations(copies, 2):
        if one != two and (groups[one] != groups[two] or copy == other):
            agreed += np.sign(first[one] - first[two]) * np.sign(second[one] - second[two])
            pairs += 1
    assert kendall(first, second, counts, groups)[0] == pytest.approx(agreed / pairs)


def test_pairs_are_those_of_a_loop():
    trials = grid(drawn(1))
    for name in ("own/noise", "own/coarse"):
        by_key, environments = {}, {}
        for one, two in itertools.permutations(trials, 2):
            keys = [key for key in ("model.width", "optimizer.lr") if one.params[key] != two.params[key]]
            if len(keys) != 1 or float(one.params[keys[0]]) > float(two.params[keys[0]]):
                continue
            other = ({"model.width", "optimizer.lr"} - set(keys)).pop()
            signs = [np.sign(one.metrics[key] - two.metrics[key]) for key in ("gap/loss", name)]
            by_key.setdefault(keys[0], {}).setdefault(one.params[other], []).append(signs[0] * signs[1])
            step = f"{keys[0]} {one.params[keys[0]]} to {two.params[keys[0]]}"
            environments.setdefault(step, []).append(signs[0] * signs[1])
        expected = {key: np.mean([np.mean(each) for each in contexts.values()]) for key, contexts in by_key.items()}
        ranked = found(trials, name)
        assert ranked.by_setting == pytest.approx(expected)
        assert ranked.granulated == pytest.approx(np.mean(list(expected.values())))
        errors = {
            step: np.mean((1 - math.copysign(1, ranked.granulated) * np.array(each)) / 2)
            for step, each in environments.items()
        }
        assert ranked.sign_error == pytest.approx(max(errors.values()))
        assert errors[ranked.environment] == pytest.approx(max(errors.values()))


def test_a_perfect_measure_comes_first_and_noise_holds_zero():
    noise = drawn(2)

    def metrics(w, r, s):
        own = noise(w, r, s)
        return {**own, "own/exact": math.exp(own["gap/loss"]), "own/mirror": -own["gap/loss"]}

    ranking = rank_measures(grid(metrics))
    assert [each.name for each in ranking.ranked[:2]] == ["own/exact", "own/mirror"]
    exact, mirror = ranking.ranked[:2]
    assert (exact.tau.mean, exact.granulated, exact.sign_error, exact.runs) == (1.0, 1.0, 0.0, 27)
    assert (exact.tau.low, exact.tau.high) == (1.0, 1.0)
    assert (mirror.tau.mean, mirror.granulated, mirror.sign_error) == (-1.0, -1.0, 0.0)
    of_noise = found(grid(metrics), "own/noise")
    assert of_noise.tau.low < 0 < of_noise.tau.high
    assert of_noise.sign_error > 0.3


def test_where_kendall_is_fooled_granulated_is_not():
    """Within a width the measure ranks the rates perfectly; between widths it is the wrong way round."""

    def metrics(w, r, s):
        return {"gap/loss": 10.0 * w + r + 0.01 * s, "own/simpson": -10.0 * w + r + 0.01 * s}

    simpson = found(grid(metrics), "own/simpson")
    assert simpson.tau.mean < -0.3
    assert simpson.by_setting == {"model.width": -1.0, "optimizer.lr": 1.0}
    only_rates = [each for each in grid(metrics) if each.params["model.width"] == "8"]
    assert found(only_rates, "own/simpson").granulated == 1.0
    assert simpson.sign_error == 1.0


def test_settings_that_move_together_are_one():
    trials = [
        trial(number, {"optimizer.lr": rate, "scheduler.least": rate / 10}, {"gap/loss": rate, "own/x": rate}, seed)
        for number, (rate, seed) in enumerate(itertools.product((0.1, 0.2, 0.3, 0.4, 0.5), (0, 1)))
    ]
    assert found(trials, "own/x").by_setting == {"optimizer.lr": 1.0}


def test_the_gap_its_parts_and_validation_rows_predict_nothing():
    def metrics(w, r, s):
        gap = w + r + 0.1 * s
        parts = {"gap/loss": gap, "gap/loss_low": gap, "train/loss": -gap, "val/loss": gap, "test/loss": gap}
        return {**parts, "own/x": gap, "own/x_se": gap, "margins/val_mean": gap, "calibration/gap_ece": gap}

    ranking = rank_measures(grid(metrics))
    assert [each.name for each in ranking.ranked] == ["own/x"]
    assert ranking.left_out == ("calibration/gap_ece", "margins/val_mean")


def test_a_number_that_some_runs_lack_is_compared_over_the_others():
    def metrics(w, r, s):
        return {"gap/loss": w + r + 0.1 * s, "own/x": math.nan if w == 0 else float(w + r)}

    ranking = rank_measures([*grid(metrics), trial(99, {}, {"gap/loss": math.nan})])
    assert (ranking.ranked[0].runs, ranking.runs, ranking.lost, ranking.settings) == (18, 27, 1, 9)


@pytest.mark.parametrize(
    ("trials", "gap", "told"),
    [
        (grid(lambda w, r, s: {"gap/loss": 1.0 * w}, seeds=1)[:4], "gap/loss", "4 finished runs of 4 .* at least 5"),
        (grid(lambda w, r, s: {"gap/loss": 1.0 * s}, 9, (8,), (0.1,)), "gap/loss", "all 9 runs have one setting"),
        (grid(lambda w, r, s: {"gap/loss": 1.0}), "gap/loss", "the same in all 27 runs"),
        (grid(lambda w, r, s: {"gap/loss": 1.0 * w}), "gap/loss", "nothing beside losses and scores"),
        (grid(lambda w, r, s: {"gap/loss": 1.0 * w}), "gap/los", "did you mean 'gap/loss'"),
    ],
)
def test_what_cannot_be_ranked_is_said(trials, gap, told):
    with pytest.raises(UserError, match=told):
        rank_measures(trials, gap)
