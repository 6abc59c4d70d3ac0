from dataclasses import replace

from reglab.sweeps.grouping import candidates, short_key
from reglab.sweeps.trial import Trial

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
    found, failed = candidates([changed(seed=s, sweep__job=str(s), name=f"run {s}") for s in range(3)], "val/loss")
    assert [(c.label, len(c.trials), c.splits) for c in found] == [("l1 0.1", 3, 1)]
    assert failed == ()


def test_folds_are_repeats_on_different_examples():
    (found,), _ = candidates([changed(data__fold=str(fold)) for fold in range(4)], "val/loss")
    assert (len(found.trials), found.splits) == (4, 4)


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
    (found,), failed = candidates([changed(status="FAILED"), changed(loss=0.5)], "val/loss")
    assert (found.values("val/loss"), found.missing, failed) == ([0.5], 0, ())


def test_a_setting_without_a_result_is_no_candidate():
    found, failed = candidates([changed(0.1), changed(0.2, status="FAILED")], "val/loss")
    assert [c.strength for c in found] == [0.1]
    assert [t.strength for t in failed] == [0.2]


def test_short_key_stays_unambiguous():
    keys = ["optimizer.lr", "scheduler.lr", "model.width", "regularizer.dropout.strength"]
    assert [short_key(key, keys) for key in keys] == ["optimizer.lr", "scheduler.lr", "width", "dropout.strength"]
