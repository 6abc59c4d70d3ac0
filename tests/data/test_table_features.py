"""Which columns are numbers, which are categories, and which are neither."""

import numpy as np
import pandas as pd
import pytest

from reglab.core.errors import UserError
from reglab.data.table_features import read_features


def test_types_are_told_apart():
    frame = pd.DataFrame(
        {
            "number": [1.5, np.nan],
            "truth": [True, False],
            "nullable": pd.array([1, None], dtype="Int64"),
            "text": ["b", None],
            "mixed": [1, "a"],
            "code": [7, 8],
        }
    )
    numeric, names, categories = read_features(frame, ["code"], most_categories=10)
    assert names == ("number", "truth", "nullable")
    np.testing.assert_array_equal(numeric, [[1.5, 1, 1], [np.nan, 0, np.nan]])
    assert [(c.name, c.codes.tolist(), c.labels) for c in categories] == [
        ("text", [0, -1], ("b",)),
        ("mixed", [0, 1], ("1", "a")),
        ("code", [0, 1], ("7", "8")),
    ]


def test_dates_are_refused_with_three_ways_out():
    frame = pd.DataFrame({"day": pd.date_range("2024-01-01", periods=3)})
    with pytest.raises(UserError, match=r"'day' holds dates.*data\.drop=\[day\].*data\.split=time data\.time=day"):
        read_features(frame, [], most_categories=10)


def test_infinite_values_are_refused():
    frame = pd.DataFrame({"fine": [1.0, 2.0], "ratio": [1.0, -np.inf]})
    with pytest.raises(UserError, match=r"'ratio' holds infinite values.*data\.drop=\[ratio\]"):
        read_features(frame, [], most_categories=10)


def test_identifiers_are_refused():
    frame = pd.DataFrame({"id": [f"row {row}" for row in range(11)]})
    with pytest.raises(
        UserError, match=r"'id' holds 11 different values \(such as 'row 0'\).*data\.most_categories=10"
    ):
        read_features(frame, [], most_categories=10)
