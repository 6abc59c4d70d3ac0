import math
from functools import partial

import pytest

from reglab.analysis.selection import Trial, select
from reglab.core.errors import UserError
from reglab.core.metric_direction import lower_is_better

select = partial(select, rule="paired_1se")


def trial(block, strength, loss, seed=0, se=0.0, **changes):
    fields = {
        "run_id": f"{block} {strength} {seed}",
        "block": block,
        "regularizer": block,
        "strength": strength,
        "stronger": 1,
        "seed": seed,
        "metrics": {"val/loss": loss, "val/loss_se": se},
        "params": {"seed": str(seed), "data.name": "digits"},
        "status": "FINISHED",
    }
    fields.update(changes)
    if strength is not None:
        fields["params"] = {**fields["params"], f"regularizer.{block}.strength": repr(strength)}
    return Trial(**fields)


def runs(block, strength, losses, **more):
    return [trial(block, strength, loss, seed, **more) for seed, loss in enumerate(losses)]


def test_the_strongest_within_one_standard_error_is_chosen():
    # Best: 0.30 with SE sqrt(0.03^2) = 0.03, so 0.32 is within, 0.34 is not.
    trials = [trial("l1", s, loss, se=0.03) for s, loss in ((1e-4, 0.40), (1e-3, 0.30), (1e-2, 0.32), (1e-1, 0.34))]
    choice = select(trials)
    assert (choice.best.label, choice.chosen.label) == ("l1 0.001", "l1 0.01")


def test_where_smaller_is_stronger_the_smallest_within_is_chosen():
    losses = ((0.5, 0.50), (1.0, 0.31), (2.0, 0.30), (4.0, 0.31))
    choice = select([trial("max_norm", s, loss, se=0.03, stronger=-1) for s, loss in losses])
    assert choice.chosen.strength == 1.0


def test_seeds_widen_the_tolerance():
    # Seed variance 0.01 over 4 runs: SE = 0.05.
    best = runs("l2", 0.1, [0.2, 0.4, 0.2, 0.4])
    between = math.sqrt(4 * 0.1**2 / 3 / 4)
    near, far = runs("l2", 0.2, [0.3 + 0.99 * between] * 4), runs("l2", 0.3, [0.3 + 1.01 * between] * 4)
    choice = select([*best, *near, *far])
    assert choice.best.estimate("val/loss").error == pytest.approx(between)
    assert choice.chosen.strength == 0.2


def test_each_block_has_its_own_choice_and_the_best_block_the_choice():
    trials = [trial("l1", 0.1, 0.5), trial("l1", 0.2, 0.4), trial("dropout", 0.5, 0.3), trial("none", None, 0.9)]
    choice = select(trials)
    assert {block: c.label for block, c in choice.blocks.items()} == {
        "l1": "l1 0.2",
        "dropout": "dropout 0.5",
        "none": "none",
    }
    assert choice.chosen.label == "dropout 0.5"
    assert choice.baseline is not None
    assert choice.baseline.label == "none"


def test_a_score_is_maximized():
    trials = [
        trial("l1", s, 1.0, metrics={"val/loss": loss, "val/accuracy": a})
        for s, loss, a in ((1.0, 0.1, 0.8), (2.0, 0.2, 0.9), (3.0, 0.3, 0.7))
    ]
    assert select(trials, "val/accuracy").best.strength == 2.0
    assert select(trials).best.strength == 1.0


def test_without_strengths_the_best_is_the_choice():
    trials = [
        trial("none", None, loss, params={"optimizer.lr": lr, "seed": "0"}, se=1.0)
        for lr, loss in (("0.1", 0.5), ("0.01", 0.3), ("0.001", 0.4))
    ]
    choice = select(trials)
    assert choice.chosen is choice.best is choice.baseline
    assert choice.chosen.label == "none lr=0.01"


def test_a_setting_that_lost_runs_is_not_chosen():
    good = runs("l1", 1.0, [0.5, 0.5])
    lucky = [trial("l1", 2.0, 0.1, 0), trial("l1", 2.0, math.nan, 1, status="FAILED", message="diverged")]
    choice = select([*good, *lucky])
    assert choice.chosen.strength == 1.0
    assert [t.message for t in choice.failed] == ["diverged"]
    assert [c.missing for c in choice.candidates] == [0, 1]


def test_of_an_interrupted_sweep_a_lucky_seed_does_not_win():
    runs_of = [trial("l1", s, loss) for s, loss in ((1.0, 0.5), (2.0, 0.6), (3.0, 0.1))]
    choice = select([*runs_of, trial("l1", 1.0, 0.6, 1), trial("l1", 2.0, 0.4, 1)], jobs=6)  # 3.0 lacks seed 1
    assert choice.best.strength == 2.0
    assert choice.chosen.strength != 3.0
    assert choice.absent == 1


def test_without_a_whole_setting_those_that_miss_least_count():
    one, two = trial("l1", 1.0, 0.1, 0), runs("l1", 2.0, [0.5, 0.5])
    choice = select([one, *two, trial("l1", 3.0, math.nan, 2, status="FAILED")])
    assert [c.missing for c in choice.candidates] == [2, 1]
    assert choice.chosen.strength == 2.0


def test_a_second_attempt_is_not_another_job():
    attempts = [
        trial("l1", 1.0, math.nan, status="KILLED", run_id="first", number="0"),
        trial("l1", 1.0, 0.5, run_id="second", number="0"),
    ]
    assert select(attempts, jobs=2).absent == 1


@pytest.mark.parametrize("key, lower", [("val/loss", True), ("val/accuracy", False), ("val/r2", False)])
def test_losses_are_minimized_and_scores_maximized(key, lower):
    assert lower_is_better(key) is lower


def test_if_every_setting_lost_runs_the_rest_counts():
    trials = [
        trial("l1", 1.0, 0.5, 0),
        trial("l1", 1.0, 0.5, 1, status="KILLED"),
        trial("l1", 2.0, 0.1, 0),
        trial("l1", 2.0, math.inf, 1),
    ]
    assert select(trials).chosen.strength == 2.0


def test_nothing_finished_is_an_error_that_tells_why():
    with pytest.raises(UserError, match=r"none of the sweep's 1 runs.*\(diverged at step 3\).*run the sweep again"):
        select([trial("l1", 1.0, math.nan, status="FAILED", message="diverged at step 3")])


def test_an_empty_sweep_is_an_error():
    with pytest.raises(UserError, match="has no runs"):
        select([])


def test_a_sweep_that_was_interrupted_before_any_run_finished_is_resumed():
    killed = [trial("l1", 1e-3, math.nan, seed, status="KILLED", message="interrupted") for seed in range(3)]
    with pytest.raises(UserError, match=r"none of the 3 runs .* has finished\. reglab resume SWEEP"):
        select(killed)
    failed = trial("l1", 1e-3, math.nan, 3, status="FAILED", message="the loss diverged")
    with pytest.raises(UserError, match="none of the sweep's 4 runs finished with a finite val/loss"):
        select([*killed, failed])
