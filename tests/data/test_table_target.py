"""Which task a target column makes, and which targets are refused."""

import numpy as np
import pandas as pd
import pytest

from reglab.core.errors import UserError
from reglab.data.table_target import read_target

CASES = [
    ([0.5, 1.5] * 20, "regression", ("y",)),
    ([1, 2] * 20, "binary", ("1", "2")),
    ([1.0, 0.0] * 20, "binary", ("0.0", "1.0")),
    ([3, 1, 2] * 20, "classification", ("1", "2", "3")),
    (list(range(40)), "regression", ("y",)),
    (list(range(10)) * 2, "regression", ("y",)),
    (["yes", "no"] * 20, "binary", ("no", "yes")),
    ([True, False] * 20, "binary", ("False", "True")),
    (["10", "9", "x"] * 20, "classification", ("10", "9", "x")),
    (pd.Categorical(["low", "high", "mid"] * 20), "classification", ("high", "low", "mid")),
]


@pytest.mark.parametrize("values, task, names", CASES, ids=[str(case[0])[:20] for case in CASES])
def test_auto_decides_by_the_values(values, task, names):
    target = read_target(pd.DataFrame({"y": values}), "auto")
    assert (target.task, target.target_names) == (task, names)
    if task == "regression":
        assert target.targets.tolist() == list(values)
    else:
        assert [names[code] for code in target.targets] == [str(value) for value in values]


def test_several_columns_of_zeros_and_ones_are_multilabel_others_regression():
    labels = pd.DataFrame({"a": [0, 1, 1], "b": [True, False, True]})
    target = read_target(labels, "auto")
    assert target.task == "multilabel"
    np.testing.assert_array_equal(target.targets, [[0, 1], [1, 0], [1, 1]])
    assert read_target(labels.assign(b=[0.5, 1, 2]), "auto").task == "regression"


def test_the_task_can_be_set():
    numbers = pd.DataFrame({"y": [1, 2, 3] * 20})
    assert read_target(numbers, "regression").targets.tolist() == [1.0, 2.0, 3.0] * 20
    assert read_target(pd.DataFrame({"y": [0, 1] * 20}), "classification").task == "classification"


@pytest.mark.parametrize(
    "values, task, message",
    [
        ([1.0, None, 2.0, None], "auto", r"'y' is missing \(NaN\) in 2 of 4 rows, first in row 2 below the header"),
        (["a", "b", None, "a"], "classification", r"'y' is missing \(NaN\) in 1 of 4 rows, first in row 3"),
        ([3.5] * 4, "auto", r"'y' is constant: every row has 3\.5"),
        (["a"] * 4, "auto", r"'y' is constant: every row has a"),
        (["a", "b", "c", "d"], "regression", r"'y' holds .* values \(such as 'a'\), but regression needs numbers"),
        ([1.0, np.inf, 2.0, 3.0], "regression", r"'y' is infinite in 1 rows, first in row 2"),
        (["a", "b", "c", "d"], "binary", r"data\.task=binary needs two classes, but 'y' has 4: .*classification"),
        ([0, 1, 2, 1], "multilabel", r"multilabel targets must be 0 or 1"),
    ],
)
def test_targets_that_cannot_be_learnt_are_refused(values, task, message):
    with pytest.raises(UserError, match=message):
        read_target(pd.DataFrame({"y": values}), task)


def test_classification_takes_one_column():
    with pytest.raises(UserError, match=r"classification takes one target column, got \['a', 'b'\]"):
        read_target(pd.DataFrame({"a": [0, 1], "b": [1, 0]}), "classification")
