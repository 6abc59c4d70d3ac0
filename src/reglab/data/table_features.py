"""Input columns of a table: numeric and categorical."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from reglab.core.errors import UserError
from reglab.core.override import typed
from reglab.data.source import Categorical, Floats, Integers
from reglab.data.table_dates import date_features

if TYPE_CHECKING:
    import pandas as pd


def read_features(
    frame: "pd.DataFrame", categorical: list[str], most_categories: int
) -> tuple[Floats, tuple[str, ...], tuple[Categorical, ...]]:
    """Return the numeric columns [rows, columns], their names, and the categorical columns.

    Numbers and truth values are numeric unless ``categorical`` names the column; dates become
    numeric features; everything else is categorical.

    Args:
        frame: The input columns.
        categorical: Names of numeric columns to treat as categories.
        most_categories: The most values of a categorical column.

    Raises:
        UserError: For durations, for infinite values, and for a column with more than
            ``most_categories`` values, each of which would become an input (an identifier or free
            text, as a rule)
    """
    from pandas.api.types import is_numeric_dtype

    frame = _with_date_features(frame)
    numeric = [name for name in frame if is_numeric_dtype(frame[name]) and name not in categorical]
    rest = [_categories(frame[name], most_categories) for name in frame if name not in numeric]
    values = np.empty((len(numeric), len(frame))).T  # column by column, as pandas lays them out
    for index, name in enumerate(numeric):
        values[:, index] = frame[name].to_numpy(dtype=np.float64, na_value=np.nan)
    infinite = np.flatnonzero(np.isinf(values).any(axis=0))
    if infinite.size:
        name = numeric[infinite[0]]
        raise UserError(
            f"the column {name!r} holds infinite values: correct them, or leave it out: "
            f"{typed('data.drop', [str(name)])}"
        )
    return values, tuple(map(str, numeric)), tuple(rest)


def _with_date_features(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Return the columns with the features of dates in the place of each column of dates."""
    import pandas as pd
    from pandas.api.types import is_datetime64_any_dtype

    dated = [name for name in frame if is_datetime64_any_dtype(frame[name])]
    if not dated:
        return frame
    columns: dict[str, object] = {}
    for name in frame:
        made = date_features(str(name), frame[name]) if name in dated else {str(name): frame[name]}
        if twice := made.keys() & (columns.keys() | (set(map(str, frame.columns)) - {str(name)})):
            raise UserError(
                f"the dates of {str(name)!r} make a feature {min(twice)!r}, and there is a column of that name: rename "
                f"it, or leave the dates out: {typed('data.drop', [str(name)])}"
            )
        columns |= made
    return pd.DataFrame(columns, copy=False)


def _categories(column: "pd.Series", most: int) -> Categorical:
    from pandas.api.types import is_timedelta64_dtype

    name = str(column.name)
    if is_timedelta64_dtype(column):
        raise UserError(
            f"the column {name!r} holds durations, which are no inputs by themselves: turn it into numbers, or leave "
            f"it out: {typed('data.drop', [name])}"
        )
    missing = column.isna().to_numpy()
    labels, codes = _sorted_labels(column[~missing])
    if len(labels) > most:
        raise UserError(
            f"the column {name!r} holds {len(labels)} different values (such as {str(labels[0])!r}), and each would "
            f"become an input: leave it out ({typed('data.drop', [name])}), make it numeric, or raise "
            f"data.most_categories={most}"
        )
    numbers = np.full(len(column), -1, dtype=np.int64)
    numbers[~missing] = codes
    return Categorical(name, numbers, tuple(str(label) for label in labels))


def _sorted_labels(column: "pd.Series") -> tuple[Sequence[str], Integers]:
    """Return the different values of a column without missing ones as sorted texts, and codes
    [rows].
    """
    import pandas as pd

    if not isinstance(column.dtype, pd.CategoricalDtype) or not all(
        isinstance(each, str) for each in column.cat.categories
    ):
        labels, codes = np.unique(column.astype(str).to_numpy(dtype=str), return_inverse=True)
        return labels.tolist(), codes
    present, codes = np.unique(column.cat.codes.to_numpy(), return_inverse=True)
    texts = [str(column.cat.categories[code]) for code in present]
    order = sorted(range(len(texts)), key=texts.__getitem__)
    return [texts[index] for index in order], np.argsort(order)[codes]
