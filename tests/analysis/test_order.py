"""Which of two settings is stronger: by the swept numbers of any member."""

from functools import partial
from itertools import permutations

import pytest

from reglab.analysis.selection import Trial, select
from reglab.analysis.verdict import verdict

select = partial(select, rule="paired_1se")

SIGNS = {"regularizer.mixup.strength": 1, "regularizer.dropout.strength": 1, "regularizer.max_norm.strength": -1}


def run(members, loss, se=0.03, **changes):
    """A run of a cocktail: its first member's number is the tag's, as every run records it."""
    params = {f"regularizer.{name}.strength": repr(value) for name, value in members.items()}
    name = "+".join(members)
    first = next(iter(members))
    fields = {
        "run_id": f"{members}",
        "block": name,
        "regularizer": name,
        "strength": members[first],
        "stronger": SIGNS[f"regularizer.{first}.strength"],
        "seed": 0,
        "metrics": {"val/loss": loss, "val/loss_se": se},
        "params": params,
        "status": "FINISHED",
        "directions": {key: SIGNS[key] for key in params},
    }
    return Trial(**{**fields, **changes})


LOSSES = {0.1: 0.40, 0.3: 0.30, 0.5: 0.32, 0.7: 0.36}


@pytest.mark.parametrize("members", list(permutations(["mixup", "dropout", "max_norm"])))
def test_the_choice_does_not_depend_on_the_order_of_members(members):
    """Only dropout is swept: the strongest within one standard error (0.03) is 0.5."""
    fixed = {"mixup": 0.2, "max_norm": 3.0}
    trials = [
        run({name: rate if name == "dropout" else fixed[name] for name in members}, loss)
        for rate, loss in LOSSES.items()
    ]
    choice = select(trials)
    assert choice.chosen.strength == 0.5
    assert [c.strength for c in choice.candidates] == sorted(LOSSES)
    assert choice.chosen.label.endswith("0.5")


def test_a_number_that_regularizes_more_the_smaller_it_is_is_ordered_so_behind_another_member():
    trials = [
        run({"mixup": 0.2, "max_norm": cap}, loss) for cap, loss in zip((4, 3, 2, 1), LOSSES.values(), strict=True)
    ]
    assert select(trials).chosen.label == "mixup+max_norm max_norm.strength=2"


def test_several_swept_numbers_are_compared_by_pareto():
    losses = {(0.1, 0.3): 0.30, (0.2, 0.3): 0.31, (0.4, 0.1): 0.31, (0.1, 0.5): 0.32, (0.2, 0.5): 0.40}
    trials = [run({"mixup": a, "dropout": b}, loss) for (a, b), loss in losses.items()]
    choice = select(trials)
    assert choice.best.label == "mixup+dropout mixup.strength=0.1 dropout.strength=0.3"
    # (0.4, 0.1) has less dropout; (0.2, 0.3) and (0.1, 0.5) are both stronger and within, and the
    # better one counts
    assert choice.chosen.label == "mixup+dropout mixup.strength=0.2 dropout.strength=0.3"
    printed = verdict(choice, "accuracy").text
    assert "mixup.strength and dropout.strength are swept together: a setting counts as stronger where none" in printed


def test_numbers_without_a_known_direction_give_no_order():
    """As of runs of earlier versions, which told the first member's direction only."""
    trials = [run({"mixup": 0.2, "dropout": rate}, loss, directions={}) for rate, loss in LOSSES.items()]
    choice = select(trials)
    assert choice.chosen is choice.best
    assert "dropout.strength is not known to regularize more or less, so the best is the choice" in (
        verdict(choice, "accuracy").text
    )


def test_a_strength_is_compared_at_equal_values_of_what_has_no_order():
    trials = [
        run({"dropout": rate}, loss + (0.01 if lr == "0.1" else 0.0), params={
            "regularizer.dropout.strength": repr(rate), "optimizer.lr": lr
        })
        for lr in ("0.1", "0.01")
        for rate, loss in LOSSES.items()
    ]  # fmt: skip
    choice = select(trials)
    assert choice.chosen.label == "dropout 0.5 lr=0.01"
