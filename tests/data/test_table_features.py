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


def test_dates_become_features_of_their_own_row():
    days = ["1970-01-02", "2024-02-29 12:30:00", None]
    frame = pd.DataFrame({"a": [1, 2, 3], "day": pd.to_datetime(pd.Series(days), format="ISO8601"), "b": [4, 5, 6]})
    values, names, _ = read_features(frame, [], most_categories=10)
    parts = [f"day_{part}" for part in ("year", "month", "day", "weekday", "hour", "seconds")]
    assert names == ("a", *parts, "b")
    np.testing.assert_array_equal(values[0], [1, 1970, 1, 2, 4, 0, 86400, 4])
    np.testing.assert_array_equal(values[1], [2, 2024, 2, 29, 3, 12.5, 1709209800, 5])
    np.testing.assert_array_equal(values[2], [3, *[np.nan] * 6, 6])
    with pytest.raises(UserError, match=r"make a feature 'day_year', and there is a column of that name"):
        read_features(frame.rename(columns={"b": "day_year"}), [], most_categories=10)


def test_durations_are_refused():
    frame = pd.DataFrame({"took": pd.to_timedelta([1, 2, 3], unit="s")})
    with pytest.raises(UserError, match=r"'took' holds durations.*data\.drop=\[took\]"):
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
