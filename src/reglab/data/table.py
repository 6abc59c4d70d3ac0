"""A user's own table, from a file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reglab.core.errors import UserError
from reglab.data.checks import choice, flag, whole
from reglab.data.source import Floats, Source
from reglab.data.table_column import Column
from reglab.data.table_features import read_features
from reglab.data.table_file import check_columns, list_columns, read_table
from reglab.data.table_keys import check_complete, group_numbers, read_targets, time_numbers
from reglab.data.table_options import Reading
from reglab.data.table_raw import RawTable
from reglab.data.table_target import TASKS, read_target
from reglab.data.table_types import type_inputs

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
    separator: str | None = None,
    decimal: str | None = None,
    missing: str | Sequence[object] | None = None,
    encoding: str | None = None,
    header: bool | None = None,
    types: Mapping[str, str] | Sequence[str] | None = None,
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
        separator, decimal, missing, encoding, header, types: See ``Reading``.

    Raises:
        UserError: For a file, column or value that cannot be used.
    """
    reading = Reading(separator, decimal, missing, encoding, header, types)
    file = read_table(path, reading)
    check_columns(file.columns, "types", reading.kinds)
    targets = check_columns(file.columns, "target", _names(target))
    if not targets:
        raise UserError(f"data.target is not set: name the column to predict. {list_columns(file.columns)}")
    steering = {
        key: check_columns(file.columns, key, [name])[0]
        for key, name in (("group", group), ("time", time), ("sample_weight", sample_weight))
        if name is not None
    }
    dropped = check_columns(file.columns, "drop", _names(drop))
    dropped += [name for name, kind in reading.kinds.items() if kind == "drop"]
    unused = {*targets, *steering.values(), *dropped}
    as_categories = check_columns(file.columns, "categorical", _names(categorical))
    used = [name for name in file.columns if name not in unused]
    columns = type_inputs(file, used, as_categories, reading)
    numeric, names, categories = read_features(
        _frame(columns), as_categories, whole("most_categories", most_categories, 1)
    )
    if not names and not categories:
        raise UserError(f"no input column is left beside {', '.join(sorted(unused))}. {list_columns(file.columns)}")
    choice("task", task, TASKS)
    return Source(
        **read_target(read_targets(file, targets, task, reading), task)._asdict(),
        numeric=numeric,
        numeric_names=names,
        categorical=categories,
        standardize_target=flag("standardize_target", standardize_target),
        group=None if group is None else group_numbers(file, steering["group"], reading),
        time=None if time is None else time_numbers(file, steering["time"], reading),
        sample_weight=None if sample_weight is None else _weights(file, steering["sample_weight"], reading),
        name=Path(str(path)).stem,
    )


def _frame(columns: Mapping[str, Column]) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame({name: column.values for name, column in columns.items()}, copy=False)


def _names(value: object) -> list[str]:
    """Return the names that an option gives; Hydra makes 2 of the name of a column called 2."""
    if value is None:
        return []
    return [str(each) for each in value] if isinstance(value, Sequence) and not isinstance(value, str) else [str(value)]


def _weights(file: RawTable, name: str, reading: Reading) -> Floats:
    from pandas.api.types import is_numeric_dtype

    column = type_inputs(file, [name], [], reading)[name].values
    check_complete(column, "sample_weight", name, file)
    weights = column.to_numpy(dtype=np.float64) if is_numeric_dtype(column) else np.array([np.nan])
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise UserError(f"data.sample_weight={name} must hold finite numbers >= 0: correct them or choose another")
    return weights
