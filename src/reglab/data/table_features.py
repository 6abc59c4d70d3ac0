"""Input columns of a table: numeric and categorical."""

from typing import TYPE_CHECKING

import numpy as np

from reglab.core.errors import UserError
from reglab.core.override import typed
from reglab.data.source import Categorical, Floats

if TYPE_CHECKING:
    import pandas as pd


def read_features(
    frame: "pd.DataFrame", categorical: list[str], most_categories: int
) -> tuple[Floats, tuple[str, ...], tuple[Categorical, ...]]:
    """Return the numeric columns [rows, columns], their names, and the categorical columns.

    Numbers and truth values are numeric unless ``categorical`` names the column; everything else is
    categorical.

    Args:
        frame: The input columns.
        categorical: Names of numeric columns to treat as categories.
        most_categories: The most values of a categorical column.

    Raises:
        UserError: For dates, for infinite values, and for a column with more than
            ``most_categories`` values, each of which would become an input (an identifier or free
            text, as a rule)
    """
    from pandas.api.types import is_numeric_dtype

    numeric = [name for name in frame if is_numeric_dtype(frame[name]) and name not in categorical]
    rest = [_categories(frame[name], most_categories) for name in frame if name not in numeric]
    values = frame[numeric].to_numpy(dtype=np.float64, na_value=np.nan)
    infinite = np.flatnonzero(np.isinf(values).any(axis=0))
    if infinite.size:
        name = numeric[infinite[0]]
        raise UserError(
            f"the column {name!r} holds infinite values: correct them, or leave it out: {typed('data.drop', [name])}"
        )
    return values, tuple(map(str, numeric)), tuple(rest)


def _categories(column: "pd.Series", most: int) -> Categorical:
    from pandas.api.types import is_datetime64_any_dtype, is_timedelta64_dtype

    name = str(column.name)
    if is_datetime64_any_dtype(column) or is_timedelta64_dtype(column):
        raise UserError(
            f"the column {name!r} holds dates, which are no inputs by themselves: turn it into numbers, leave it out "
            f"({typed('data.drop', [name])}), or split by it (data.split=time {typed('data.time', name)})"
        )
    missing = column.isna().to_numpy()
    labels, codes = np.unique(column[~missing].astype(str).to_numpy(dtype=str), return_inverse=True)
    if len(labels) > most:
        raise UserError(
            f"the column {name!r} holds {len(labels)} different values (such as {str(labels[0])!r}), and each would "
            f"become an input: leave it out ({typed('data.drop', [name])}), make it numeric, or raise "
            f"data.most_categories={most}"
        )
    numbers = np.full(len(column), -1, dtype=np.int64)
    numbers[~missing] = codes
    return Categorical(name, numbers, tuple(str(label) for label in labels))
