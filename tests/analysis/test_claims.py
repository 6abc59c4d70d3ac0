import numpy as np
import pytest
from scipy import stats

from analysis.test_paired import scored
from reglab.analysis.claims import claim, optimism


def sweep(seed, settings=7, runs=3, rows=120, effect=0.0, between=0.02):
    """A sweep with row, seed and residual effects in each setting; the first has an effect."""
    draw = np.random.default_rng(seed)
    hard = draw.lognormal(sigma=0.7, size=rows)
    actual = []
    for index in range(settings + 1):
        own = 0.3 * hard * draw.normal(size=rows) + between * draw.normal(size=(runs, 1)) * (runs > 1)
        noise = 0.2 * hard * draw.normal(size=(runs, rows))
        actual.append({"": scored(hard + own + noise + (effect if index == 1 else 0.0))})
    return actual[1:], actual[0]


@pytest.mark.parametrize("runs", [1, 3])
def test_where_nothing_helps_a_sweep_in_twenty_has_so_small_a_p_at_most(runs):
    false = sum(min(claim(*sweep(seed, runs=runs)).p) <= 0.05 for seed in range(100))
    assert false / 100 <= 0.08  # 5% are to be expected; scripts/study/null_sweeps.py has a thousand


def test_a_single_setting_has_the_p_value_of_its_t():
    settings, baseline = sweep(3, settings=1, runs=1, rows=400)
    actual = claim(settings, baseline)
    apart = (settings[0][""].noise - baseline[""].noise)[0]
    expected = stats.ttest_1samp(apart, 0.0, alternative="less")
    assert actual.t[0] == pytest.approx(expected.statistic)
    assert actual.p[0] == pytest.approx(expected.pvalue, abs=0.04)


def test_a_real_effect_is_found_and_only_there():
    actual = claim(*sweep(1, effect=-0.4))
    assert actual.helps
    assert [actual.better(index) for index in range(7)] == [True, *[False] * 6]


def test_one_run_of_each_setting_claims_nothing():
    actual = claim(*sweep(1, runs=1, effect=-0.4))
    assert min(actual.p) < 0.01
    assert not actual.helps


def test_what_makes_it_worse_does_not_help():
    actual = claim(*sweep(1, effect=0.4))
    assert actual.p[0] > 0.9
    assert not actual.helps


def test_many_settings_need_a_larger_t():
    few, many = (claim(*sweep(5, settings=count)) for count in (1, 40))
    assert many.t[0] == few.t[0]
    assert many.p[0] > few.p[0]


def test_a_setting_that_equals_the_baseline_has_no_effect():
    settings, baseline = sweep(2)
    actual = claim([*settings[:2], baseline], baseline)
    assert (actual.t[2], actual.p[2]) == (0.0, 1.0)


def test_folds_are_held_to_sidak():
    folds = [sweep(seed, settings=3, runs=1, effect=-0.2) for seed in range(5)]
    settings = [{fold: pair[0][index][""] for fold, pair in enumerate(folds)} for index in range(3)]
    baseline = {fold: pair[1][""] for fold, pair in enumerate(folds)}
    actual = claim(settings, baseline)
    means = [float((pair[0][0][""].noise - pair[1][""].noise).mean()) for pair in folds]
    single = stats.ttest_1samp(means, 0.0, alternative="less").pvalue
    assert actual.p[0] == pytest.approx(1 - (1 - single) ** 3)


def test_settings_on_other_rows_make_no_claim():
    settings, baseline = sweep(0)
    other = {"": scored(settings[0][""].noise, rows=np.arange(1, 121))}
    assert claim([other, *settings[1:]], baseline) is None


def test_the_winner_s_curse_is_what_the_best_loses_on_new_rows():
    """The means of the settings are known; the best one's luck is averaged over many sweeps."""
    luck, estimated = [], []
    for seed in range(80):
        settings, _ = sweep(seed, settings=10, runs=1, rows=100)
        hard = np.random.default_rng(seed).lognormal(sigma=0.7, size=100).mean()
        luck.append(hard - min(setting[""].noise.mean() for setting in settings))
        estimated.append(optimism(settings))
    assert np.mean(estimated) == pytest.approx(np.mean(luck), rel=0.25)
    assert optimism(settings[:1]) == 0.0
