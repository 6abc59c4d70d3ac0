from dataclasses import replace
from functools import partial

import pytest

from reglab.analysis.selection import Trial, select
from reglab.analysis.verdict import verdict

select = partial(select, rule="paired_1se")


def run(block, strength, train, val, seed=0, accuracy=0.9, se=0.01, zeros=0.0, status="FINISHED"):
    metrics = {
        "train/loss": train,
        "val/loss": val,
        "val/loss_se": se,
        "gap/loss": val - train,
        "gap/loss_low": val - train - 0.05,
        "gap/loss_high": val - train + 0.05,
        "val/accuracy": accuracy,
        "weights/zeros": zeros,
    }
    params = {"seed": str(seed), "strength": str(strength)}
    return Trial(f"{block}{strength}{seed}", block, block, strength, 1, seed, metrics, params, status)


def text(trials):
    return verdict(select(trials), "accuracy").text


NONE = [run("none", None, 0.01, 0.61, seed, accuracy=0.931) for seed in range(2)]


def dropout(*vals, train=0.1, accuracy=0.957):
    return [
        run("dropout", 0.1 * (i + 1), train, val, seed, accuracy) for i, val in enumerate(vals) for seed in range(2)
    ]


def test_what_helped_is_said_with_numbers():
    printed = verdict(select([*NONE, *dropout(0.5, 0.3, 0.5)]), "accuracy").headline
    assert printed == (
        "dropout 0.2 cuts the gap in loss from 0.600 [0.550, 0.650] to 0.200 [0.150, 0.250] (2 runs each). "
        "Validation accuracy rises from 0.931 to 0.957 and validation loss falls from 0.610 to 0.300."
    )


def test_a_baseline_within_one_standard_error_is_no_evidence():
    noisy = [replace(r, metrics={**r.metrics, "val/loss_se": 0.5}) for r in dropout(0.5, 0.3, 0.5)]
    assert text([*NONE, *noisy]).startswith("No clear evidence that regularization helps here: without it")


def test_a_baseline_that_wins_is_said():
    assert text([*NONE, *dropout(0.8, 0.7, 0.9)]).startswith("No regularizer beat training without one")


@pytest.mark.parametrize(
    "vals, message", [((0.5, 0.4, 0.3), "strongest of its range"), ((0.3, 0.4, 0.5), "weakest of its range")]
)
def test_an_optimum_at_the_edge_asks_for_a_wider_range(vals, message):
    assert f"is the {message}: extend the range" in text([*NONE, *dropout(*vals)])
    assert "extend the range" not in text([*NONE, *dropout(0.5, 0.3, 0.5)])


def test_the_choice_is_explained_where_it_is_not_the_best():
    printed = text([*NONE, *dropout(0.5, 0.300, 0.305, 0.5)])
    assert "dropout 0.2 has the best validation loss" in printed
    assert "dropout 0.3 (0.305) is the strongest dropout within one standard error of it" in printed


def test_a_gap_that_shrank_by_underfitting_is_named():
    printed = text([*NONE, *dropout(0.5, 0.3, 0.5), *[run("l2", 1.0, 0.95, 1.0, seed) for seed in range(2)]])
    assert "A small gap alone is no success: l2 1 has 0.050, but it underfits (validation loss 1.000" in printed


def test_a_choice_that_only_trains_worse_is_named():
    similar = [run("l2", s, 0.3, 0.615, seed, se=0.05) for s in (1.0, 2.0, 3.0) for seed in range(2)]
    first = [run("l2", 0.5, 0.3, 0.60, seed, se=0.05) for seed in range(2)]
    assert "shrank only because training got worse (training loss 0.010 to 0.300)" in text([*NONE, *first, *similar])


def test_disagreement_of_loss_and_score_is_named():
    printed = text([*NONE, *dropout(0.5, 0.3, 0.5, accuracy=0.90)])
    assert "By validation accuracy alone, training without a regularizer is better (0.931 against 0.900)" in printed


def test_exact_zeros_are_named():
    sparse = [run("l1", 0.1, 0.1, 0.5, seed, zeros=0.84) for seed in range(2)]
    assert "l1 0.1 sets 84.0% of the weights to exactly zero" in text([*NONE, *dropout(0.5, 0.3, 0.5), *sparse])
    assert "exactly zero" not in text([*NONE, *dropout(0.5, 0.3, 0.5)])


def test_failed_runs_are_counted_and_what_they_exclude_is_named():
    broken = [run("l1", 1.0, 0.1, 0.2, 0), run("l1", 1.0, 0.1, 0.2, 1, status="FAILED")]
    printed = text([*NONE, *dropout(0.5, 0.3, 0.5), *broken])
    assert "1 of 10 runs gave no result" in printed
    assert "some of its runs are missing: l1 1" in printed
    assert printed.startswith("dropout 0.2")


def test_an_interrupted_sweep_says_how_many_jobs_have_no_run():
    second = [run("l1", 1.0, 0.1, 0.2)]
    printed = verdict(select([*NONE, *dropout(0.5, 0.3, 0.5), *second], jobs=12), "accuracy").details
    assert printed[0].startswith("The sweep is incomplete: 3 jobs have no run")
    assert "Left out of the choice, since some of its runs are missing: l1 1." in printed
    assert "no run" not in text([*NONE, *dropout(0.5, 0.3, 0.5), *second])


def test_one_seed_is_too_few():
    trials = [*NONE, *dropout(0.5, 0.3, 0.5)]
    assert "how much seeds differ is not known" in text([trial for trial in trials if trial.seed == 0])
    assert "how much seeds differ" not in text(trials)


def test_without_a_baseline_it_does_not_claim_that_regularization_helps():
    printed = text(dropout(0.5, 0.3, 0.5))
    assert "sweep.blocks=[{regularizer: []}, {regularizer: [" in printed


def test_a_sweep_over_something_else_speaks_of_that():
    rates = [("0.1", 0.5), ("0.01", 0.3), ("0.001", 0.305)]
    trials = [replace(run("none", None, 0.1, val), params={"optimizer.lr": rate}) for rate, val in rates]
    assert verdict(select(trials), "accuracy").headline == (
        "none lr=0.01 is best: validation loss 0.300 ±0.010. 1 of the 2 others is within one standard error of it."
    )
