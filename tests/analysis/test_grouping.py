import math
from dataclasses import replace

import pytest
import scipy.stats

from reglab.analysis.grouping import candidates, short_key
from reglab.analysis.trial import Trial

BASE = Trial(
    run_id="a",
    block="l1",
    regularizer="l1",
    strength=0.1,
    stronger=1,
    seed=0,
    metrics={"val/loss": 1.0},
    params={"regularizer.l1.strength": "0.1", "optimizer.lr": "0.01"},
    status="FINISHED",
)


def changed(strength=0.1, seed=0, status="FINISHED", loss=1.0, **params):
    named = {key.replace("__", "."): value for key, value in params.items()}
    every = {**BASE.params, "regularizer.l1.strength": str(strength), "seed": str(seed), **named}
    return replace(BASE, strength=strength, seed=seed, status=status, metrics={"val/loss": loss}, params=every)


def labels(trials):
    return [candidate.label for candidate in candidates(trials, "val/loss")[0]]


def test_runs_that_differ_only_in_seed_are_one_candidate():
    actual, failed = candidates([changed(seed=s, sweep__job=str(s), name=f"run {s}") for s in range(3)], "val/loss")
    assert [(c.label, len(c.trials), len(set(c.splits))) for c in actual] == [("l1 0.1", 3, 1)]
    assert failed == ()


def test_folds_are_repeats_on_different_examples():
    trials = [changed(data__fold=str(f), loss=f, seed=s) for f in range(4) for s in (0, 1)]
    (actual,), _ = candidates(trials, "val/loss")
    assert (len(actual.trials), len(set(actual.splits))) == (8, 4)
    assert actual.estimate("val/loss").error == pytest.approx(scipy.stats.sem([0, 1, 2, 3]))
    low, high = actual.interval("val/loss").low, actual.interval("val/loss").high
    assert math.isnan(low)
    assert math.isnan(high)


def test_candidates_are_ordered_from_weak_to_strong():
    assert labels([changed(0.3), changed(0.1), changed(0.2)]) == ["l1 0.1", "l1 0.2", "l1 0.3"]


def test_what_else_varies_is_in_the_label():
    trials = [changed(s, optimizer__lr=lr) for s in (1e-4, 0.1) for lr in ("0.01", "0.1")]
    assert labels(trials) == ["l1 1e-4 lr=0.01", "l1 1e-4 lr=0.1", "l1 0.1 lr=0.01", "l1 0.1 lr=0.1"]


def test_the_strength_itself_is_not_repeated_in_the_label():
    # A tag holds six digits of it, the param all.
    trials = [replace(changed(s), strength=float(f"{s:g}")) for s in (0.00031622776601683794, 0.1)]
    assert labels(trials) == ["l1 3.16228e-4", "l1 0.1"]


def test_a_second_attempt_replaces_a_failed_one():
    (actual,), failed = candidates([changed(status="FAILED"), changed(loss=0.5)], "val/loss")
    assert (actual.values("val/loss"), actual.missing, failed) == ([0.5], 0, ())


def numbered(trials):
    """Give each run a job of its own."""
    return [replace(run, run_id=f"run{n}", number=str(n)) for n, run in enumerate(trials)]


def missing(trials, jobs=None):
    return {candidate.label: candidate.missing for candidate in candidates(numbered(trials), "val/loss", jobs)[0]}


def test_a_seed_that_only_others_have_is_missing():
    runs = [changed(0.1), changed(0.2), changed(0.3), changed(0.1, seed=1)]
    assert missing(runs) == missing(runs, jobs=6) == {"l1 0.1": 0, "l1 0.2": 1, "l1 0.3": 1}


def test_a_fold_and_a_failed_seed_are_missing():
    folds = [changed(0.1, data__fold="0"), changed(0.1, data__fold="1"), changed(0.2, data__fold="0")]
    assert missing(folds) == {"l1 0.1": 0, "l1 0.2": 1}
    assert missing([changed(0.1), changed(0.2), changed(0.2, seed=1, status="FAILED")]) == {"l1 0.1": 1, "l1 0.2": 1}


def test_a_seed_that_another_block_has_is_missing_only_while_jobs_are_out_of_sight():
    none = [replace(changed(seed=seed), block="none", regularizer="none", strength=None) for seed in range(3)]
    runs = [*none, changed(0.1), changed(0.2)]
    assert missing(runs, jobs=5) == {"none": 0, "l1 0.1": 0, "l1 0.2": 0}
    assert missing(runs, jobs=6) == missing(runs) == {"none": 0, "l1 0.1": 2, "l1 0.2": 2}


def test_a_setting_without_a_result_is_no_candidate():
    actual, failed = candidates([changed(0.1), changed(0.2, status="FAILED")], "val/loss")
    assert [c.strength for c in actual] == [0.1]
    assert [t.strength for t in failed] == [0.2]


def test_short_key_stays_unambiguous():
    keys = ["optimizer.lr", "scheduler.lr", "model.width", "regularizer.dropout.strength"]
    assert [short_key(key, keys) for key in keys] == ["optimizer.lr", "scheduler.lr", "width", "dropout.strength"]


def test_of_several_models_their_classes_are_named_and_not_what_follows_from_them():
    models = {"CNN": {"model.kernel": "3", "data.shape": "image"}, "MLP": {"model.width": "8", "data.shape": "flat"}}
    trials = [
        changed(0.1, **{"model._target_": f"reglab.models.{name}", "optimizer.lr": lr, **options})
        for name, options in models.items()
        for lr in ("0.1", "0.2")
    ]
    assert labels(trials) == [f"l1 0.1 lr={lr} model={name}" for name in models for lr in ("0.1", "0.2")]
    wider = changed(0.1, **{"model._target_": "reglab.models.MLP", "model.width": "9", "data.shape": "flat"})
    assert "l1 0.1 lr=0.01 model=MLP width=9" in labels([*trials, wider])
