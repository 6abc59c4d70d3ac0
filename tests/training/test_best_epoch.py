"""Which epoch is a job's best, and the final metrics that follow from it."""

import math

import pytest

from reglab.training.best_epoch import BestEpochs, final_metrics


def test_each_job_keeps_its_own_best_epoch() -> None:
    record = BestEpochs("val/loss", 3)
    assert record.offer([0, 2], [{"val/loss": 2.0}, {"val/loss": 5.0}], 1, 10) == [0, 1]
    assert record.offer([0, 2], [{"val/loss": 3.0}, {"val/loss": 4.0}], 2, 20) == [1]
    assert (record.values[0], record.values[2]) == (2.0, 4.0)
    assert math.isnan(record.values[1])
    assert (record.epochs, record.steps) == ([1, 0, 2], [10, 0, 20])


def test_the_first_of_equals_is_best_and_a_score_is_best_where_it_is_highest() -> None:
    record = BestEpochs("val/accuracy")
    assert [record.offer([0], [{"val/accuracy": value}], epoch, 0) for epoch, value in enumerate((0.5, 0.5, 0.7))] == [
        [0], [], [0],
    ]  # fmt: skip
    assert record.epochs == [2]


def test_what_one_job_resumes_from_is_what_it_was_in_a_pack() -> None:
    record = BestEpochs("val/loss", 2)
    record.offer([1], [{"val/loss": 2.0, "gap/loss": 1.0}], 4, 40)
    alone, empty = BestEpochs("val/loss"), BestEpochs("val/loss")
    alone.load_state_of(0, record.state_of(1))
    assert (alone.values, alone.epochs, alone.metrics) == ([2.0], [4], [{"val/loss": 2.0, "gap/loss": 1.0}])
    empty.load_state_of(0, record.state_of(0))
    assert empty.offer([0], [{"val/loss": 9.0}], 1, 1) == [0]  # there was none


LAST = {"val/loss": 3.0, "objective/task": 0.1, "system/memory": 5.0, "weights/all/l2": 8.0, "weights/all/update": 1.0}
BEST = {"val/loss": 2.0, "objective/task": 0.7, "system/memory": 4.0, "weights/all/l2": 6.0, "weights/all/update": 2.0}


def test_a_run_that_stands_for_its_last_weights_has_their_metrics() -> None:
    assert final_metrics(LAST, 9) == {**LAST, "epoch": 9.0}


@pytest.mark.parametrize("added", ["curvature/trace", "memorization/fitted"])
def test_a_run_that_stands_for_its_best_weights_has_theirs_and_trainings_of_the_last_epoch(added: str) -> None:
    final = final_metrics({**LAST, added: 1.0}, 9, {**BEST, added: 2.0}, 4)
    assert final == {
        "val/loss": 2.0, "objective/task": 0.1, "system/memory": 5.0, "weights/all/l2": 6.0, added: 2.0, "epoch": 4.0,
    }  # fmt: skip
