"""Verdicts on made-up sweeps with per-example results and known truth."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import r2_score

from reglab.analysis.comparison import Comparison
from reglab.analysis.per_example_file import Examples
from reglab.analysis.selection import Trial, select
from reglab.analysis.verdict import verdict

ROWS, PROBE = 200, 100
HARD = np.random.default_rng(0).lognormal(sigma=0.8, size=ROWS)


class Sweep:
    """Made-up runs: the loss of row i is ``HARD[i] * factor`` plus row, seed and joint noise."""

    def __init__(self, seeds=3, noise=0.05, constant=9.0):
        self.trials, self.results, self.seeds, self.noise, self.constant = [], {}, seeds, noise, constant

    def add(self, block, strength, factor, train=0.01, right=0.9):
        draw = np.random.default_rng(len(self.trials))
        own = self.noise * draw.normal(size=ROWS)
        for seed in range(self.seeds):
            loss = HARD * factor + own + self.noise * draw.normal(size=ROWS) + 0.3 * self.noise * draw.normal()
            probe = train * draw.lognormal(size=PROBE)
            score = (np.arange(ROWS) < right * ROWS).astype(np.float32)
            run = f"{block} {strength} {seed}"
            self.results[run] = Examples(
                val_index=np.arange(ROWS),
                val_loss=loss,
                val_score=score,
                probe_index=np.arange(PROBE) + ROWS,
                probe_loss=probe,
                probe_score=np.ones(PROBE, np.float32),
                val_constant_loss=np.full(ROWS, self.constant),
                val_constant_score=(np.arange(ROWS) < 0.9 * ROWS).astype(np.float32),
                train_rows=np.array(PROBE),
            )
            gap = loss.mean() - probe.mean()
            metrics = {
                "val/loss": loss.mean(),
                "val/loss_se": loss.std(ddof=1) / ROWS**0.5,
                "train/loss": probe.mean(),
                "gap/loss": gap,
                "gap/loss_low": gap - 0.1,
                "gap/loss_high": gap + 0.1,
                "val/accuracy": score.mean(),
            }
            params = {"seed": str(seed)}
            if strength is not None:
                params[f"regularizer.{block}.strength"] = repr(strength)
            self.trials.append(Trial(run, block, block, strength, 1, seed, metrics, params, "FINISHED"))
        return self

    def choice(self, **options):
        return select(self.trials, results=self.results, **{"rule": "paired_1se", **options})

    def text(self, **options):
        return verdict(self.choice(**options), "accuracy").text


def helping(**options):
    actual = Sweep(**options).add("none", None, 1.0, right=0.9)
    for strength, factor in ((0.1, 0.9), (0.2, 0.8), (0.4, 0.801), (0.8, 0.83)):
        actual.add("dropout", strength, factor, right=0.95)
    return actual


def test_the_strongest_within_a_standard_error_of_the_paired_difference_is_chosen():
    """Rows differ far more than settings: unpaired, even no regularizer is within one error."""
    sweep = helping()
    assert sweep.choice().chosen.strength == 0.4
    assert sweep.choice(rule="1se").chosen.strength == 0.8
    assert sweep.choice(rule="best").chosen.strength in (0.2, 0.4)
    assert "dropout 0.4" in sweep.text()


def test_the_best_is_the_default_and_what_else_could_be_chosen_is_told():
    sweep = helping()
    best = select(sweep.trials, results=sweep.results)
    assert (best.rule, best.chosen) == ("best", best.best)
    assert ("sweep.rule=paired_1se would choose it" in sweep.text(rule="best")) == (best.best.strength != 0.4)


def test_a_real_effect_is_told_and_how_many_settings_have_it():
    printed = helping().text()
    assert printed.startswith("dropout 0.4 cuts the gap in loss")
    assert "4 of 4 settings are better than training without a regularizer, tested all at once" in printed


def test_runs_without_results_by_example_fall_back_to_the_unpaired_rule_and_say_so():
    sweep = helping()
    sweep.results.popitem()
    choice = sweep.choice()
    assert (choice.rule, choice.asked, choice.chosen.strength) == ("1se", "paired_1se", 0.8)
    assert "Some runs keep no per-example results" in sweep.text()
    assert "Some runs keep no results" not in helping().text()


def test_no_effect_is_no_evidence():
    sweep = Sweep().add("none", None, 1.0)
    for strength in (0.1, 0.2, 0.3):
        sweep.add("dropout", strength, 1.0)
    sweep.trials = [replace(t, metrics={**t.metrics}) for t in sweep.trials]
    printed = sweep.text()
    assert "No clear evidence that regularization helps" in printed or "No regularizer beat" in printed
    assert "cuts the gap" not in printed


def test_a_gap_is_cut_only_where_the_paired_interval_excludes_zero():
    clear, unclear = helping(), Sweep(noise=1.0)
    assert "cuts the gap" in clear.text()
    unclear.add("none", None, 1.0)
    for strength, factor in ((0.1, 0.995), (0.2, 0.99)):
        unclear.add("l2", strength, factor)
    choice = unclear.choice()
    apart = choice.comparison.gap(choice.chosen, choice.baseline)
    low, high = apart.interval()
    assert low < 0 < high
    assert "does not clearly change the gap" in unclear.text() or "No regularizer beat" in unclear.text()


def test_the_gap_s_paired_error_is_that_of_both_sides_and_the_seeds():
    """The probe is half of the training part, which shrinks its error by sqrt(1/2)."""
    sweep = helping()
    for run, one in sweep.results.items():
        sweep.results[run] = replace(one, train_rows=np.array(2 * PROBE))
    choice = sweep.choice()
    actual = choice.comparison.gap(choice.chosen, choice.baseline)
    runs = [[sweep.results[t.run_id] for t in c.trials] for c in (choice.chosen, choice.baseline)]
    val, probe = (
        np.array([getattr(a, f"{side}_loss") - getattr(b, f"{side}_loss") for a, b in zip(*runs, strict=True)])
        for side in ("val", "probe")
    )
    gaps = val.mean(1) - probe.mean(1)
    expected = val.mean(0).var(ddof=1) / ROWS + 0.5 * probe.mean(0).var(ddof=1) / PROBE + gaps.var(ddof=1) / len(gaps)
    assert actual.mean == pytest.approx(gaps.mean())
    assert actual.error**2 == pytest.approx(expected, rel=0.02)


def test_settings_that_are_not_told_apart_are_a_tie():
    sweep = helping().add("l2", 0.01, 0.8)
    printed = sweep.text()
    assert "is not clearly better than l2 0.01" in printed or "is not clearly better than dropout" in printed
    assert "A tie" not in helping().add("l2", 0.01, 0.9).text()


def test_a_choice_that_a_constant_equals_has_learned_nothing():
    printed = helping(constant=float(HARD.mean()) * 0.8).text()
    assert printed.startswith("By validation loss, the choice, dropout 0.4")
    assert "is not shown to be better than the constant predictor" in printed


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_few_seeds_do_not_hide_that_the_constant_is_beaten(seeds):
    """The constant has no seeds: its loss of 9 is far above, whatever the seeds' spread."""
    assert "is not shown to be better than the constant" not in helping(seeds=seeds).text()


def test_with_class_weights_the_plain_loss_is_no_measure_against_a_constant():
    sweep = helping(constant=float(HARD.mean()) * 0.5)
    sweep.trials = [replace(t, params={**t.params, "data.class_weight": "balanced"}) for t in sweep.trials]
    assert not sweep.text().startswith("By validation loss")


def test_a_sweep_over_something_else_is_held_to_the_constant_too():
    sweep = Sweep(constant=0.1).add("none", None, 1.0)
    more = [replace(t, run_id=f"{t.run_id} lr", params={**t.params, "optimizer.lr": "0.01"}) for t in sweep.trials]
    sweep.results |= {f"{run} lr": replace(one, val_loss=one.val_loss * 0.9) for run, one in sweep.results.items()}
    sweep.trials = [replace(t, params={**t.params, "optimizer.lr": "0.1"}) for t in sweep.trials] + more
    printed = sweep.text()
    assert "is best: validation loss" in printed
    assert "not shown to be better than the constant predictor" in printed


def test_decisions_no_better_than_a_constant_s_are_told():
    """With 9% positives the loss beats the constant's, the accuracy does not."""
    sweep = Sweep().add("none", None, 1.0, right=0.88).add("l1", 0.003, 0.8, right=0.9).add("l1", 0.001, 0.9, right=0.9)
    printed = sweep.text()
    assert (
        "By validation accuracy, l1 0.003 (0.900) is not shown to be better than the constant predictor (0.9" in printed
    )
    assert "better than the constant" not in helping().text()


def test_the_luck_of_the_best_is_stated():
    sweep = Sweep(noise=1.0).add("none", None, 1.2)
    for strength in range(1, 9):
        sweep.add("dropout", strength / 10, 1.0)
    printed = sweep.text()
    assert "The best of 9 settings looks better than it is: its validation loss of" in printed


def test_one_run_of_each_setting_is_no_claim():
    printed = helping(seeds=1).text()
    assert printed.startswith("On these validation rows, dropout")
    assert "sweep.seeds=3" in printed


def test_a_score_that_is_no_mean_is_compared_by_each_row_s_influence():
    """R2: the standard error over rows against scikit-learn's r2 in resamples drawn here."""
    draw = np.random.default_rng(1)
    wanted = draw.normal(size=ROWS)
    outputs = [wanted + scale * draw.normal(size=ROWS) for scale in (0.5, 0.6)]
    results, trials = {}, []
    for index, prediction in enumerate(outputs):
        without = [r2_score(np.delete(wanted, row), np.delete(prediction, row)) for row in range(ROWS)]
        terms = ROWS * r2_score(wanted, prediction) - (ROWS - 1) * np.array(without)  # the jackknife's
        results[str(index)] = Examples(
            np.arange(ROWS), (prediction - wanted) ** 2, terms, np.arange(2), np.ones(2), np.ones(2)
        )
        params = {"regularizer.l2.strength": str(index)}
        trials.append(
            Trial(
                str(index), "l2", "l2", float(index), 1, 0, {"val/r2": r2_score(wanted, prediction)}, params, "FINISHED"
            )
        )
    choice = select(trials, "val/r2", results=results)
    actual = Comparison(results, "val/r2").difference(*choice.candidates)
    assert actual.mean == pytest.approx(r2_score(wanted, outputs[1]) - r2_score(wanted, outputs[0]), rel=0.02)
    resamples = []
    for _ in range(600):
        rows = draw.integers(ROWS, size=ROWS)
        resamples.append(np.subtract(*(r2_score(wanted[rows], prediction[rows]) for prediction in outputs)))
    assert actual.error == pytest.approx(np.std(resamples), rel=0.2)


@pytest.mark.parametrize("rule", ["bset", None, 1])
def test_an_unknown_rule_names_the_nearest(rule):
    with pytest.raises(Exception, match=r"sweep\.rule=.* is unknown"):
        helping().choice(rule=rule)
