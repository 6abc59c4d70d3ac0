"""A user's own table, from a CSV or Parquet file."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reglab.core.errors import UserError
from reglab.data.checks import choice, flag, whole
from reglab.data.source import Floats, Integers, Source
from reglab.data.table_features import read_features
from reglab.data.table_file import check_columns, list_columns, read_table
from reglab.data.table_target import TASKS, read_target

if TYPE_CHECKING:
    import pandas as pd


def table(
    *,
    path: str | None = None,
    target: str | Sequence[str] | None = None,
    task: str = "auto",
    drop: str | Sequence[str] | None = None,
    categorical: str | Sequence[str] | None = None,
    most_categories: int = 100,
    standardize_target: bool = True,
    group: str | None = None,
    time: str | None = None,
    sample_weight: str | None = None,
) -> Source:
    """Return the rows of the file ``path``.

    Every column is an input that is not named here for something else.

    Args:
        target: One column, or several (multilabel, or regression with several outputs)
        task: See ``read_target``.
        drop: Columns to leave out.
        categorical: Numeric columns to treat as categories.
        group, time, sample_weight: Columns that steer the split and the weights; they are not
            inputs.

    Raises:
        UserError: For a file, column or value that cannot be used.
    """
    frame = read_table(path)
    targets = check_columns(frame, "target", _names(target))
    if not targets:
        raise UserError(f"data.target is not set: name the column to predict. {list_columns(frame)}")
    steering = {
        key: frame[check_columns(frame, key, [name])[0]]
        for key, name in (("group", group), ("time", time), ("sample_weight", sample_weight))
        if name is not None
    }
    unused = {
        *targets,
        *(str(column.name) for column in steering.values()),
        *check_columns(frame, "drop", _names(drop)),
    }
    as_categories = check_columns(frame, "categorical", _names(categorical))
    numeric, names, categories = read_features(
        frame[[name for name in frame if name not in unused]],
        as_categories,
        whole("most_categories", most_categories, 1),
    )
    if not names and not categories:
        raise UserError(f"no input column is left beside {', '.join(sorted(unused))}. {list_columns(frame)}")
    return Source(
        **read_target(frame[targets], choice("task", task, TASKS))._asdict(),
        numeric=numeric,
        numeric_names=names,
        categorical=categories,
        standardize_target=flag("standardize_target", standardize_target),
        group=None if group is None else _blocks(steering["group"], "group"),
        time=None if time is None else _blocks(_moments(steering["time"]), "time"),
        sample_weight=None if sample_weight is None else _weights(steering["sample_weight"]),
        name=Path(str(path)).stem,
    )


def _names(value: str | Sequence[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())


def _blocks(column: "pd.Series", key: str) -> Integers:
    """Return the number of each row's value among the sorted values."""
    _check_complete(column, key)
    values = column.to_numpy() if column.dtype.kind in "iufbM" else column.astype(str).to_numpy(dtype=str)
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def _moments(column: "pd.Series") -> "pd.Series":
    """Return ``column`` as it is if numeric, else read as dates and times."""
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_datetime64_any_dtype(column):
        return column
    try:
        # 01/02/2024 is two dates: guessing could test on the past.
        return pd.to_datetime(column, format="ISO8601")
    except (ValueError, TypeError) as error:
        raise UserError(
            f"data.time={column.name} cannot be read as dates ({error}): write them like 2024-12-31 or as numbers"
        ) from error


def _weights(column: "pd.Series") -> Floats:
    from pandas.api.types import is_numeric_dtype

    _check_complete(column, "sample_weight")
    weights = column.to_numpy(dtype=np.float64) if is_numeric_dtype(column) else np.array([np.nan])
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise UserError(
            f"data.sample_weight={column.name} must hold finite numbers >= 0: correct them or choose another"
        )
    return weights


def _check_complete(column: "pd.Series", key: str) -> None:
    missing = np.flatnonzero(column.isna())
    if missing.size:
        raise UserError(
            f"data.{key}={column.name} is missing in {missing.size} of {len(column)} rows, first in row "
            f"{missing[0] + 1} below the header: fill these values in or delete the rows"
        )
