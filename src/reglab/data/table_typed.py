"""Columns that come with a type, from a Parquet file."""

from typing import TYPE_CHECKING

import numpy as np

from reglab.core.errors import UserError
from reglab.core.override import typed
from reglab.data.table_column import Column
from reglab.data.table_dates import first_sentence, read_dates
from reglab.data.table_raw import RawTable

if TYPE_CHECKING:
    import pandas as pd

_LARGEST = float(np.finfo(np.float32).max)


def typed_column(table: RawTable, name: str, wanted: str | None = None) -> Column:
    """Return a column by the type that the file gives it, or by ``wanted``.

    Args:
        table: The file.
        name: Of the column.
        wanted: Of ``data.types``.

    Raises:
        UserError: For values that ``wanted`` cannot be, and for numbers that are infinite or beyond
            float32.
    """
    from pandas.api import types

    values = table.columns[name]
    if name in table.unusable:
        raise UserError(
            f"the column {name!r} holds {table.unusable[name]}, of which no input can be made: make columns of plain "
            f"values of it, or leave it out: {typed('data.drop', [name])}"
        )
    if types.is_object_dtype(values) and types.infer_dtype(values, skipna=True) in ("date", "datetime"):
        values = _converted(name, values, "date")
    if wanted is not None:
        values = _converted(name, values, wanted)
    if types.is_datetime64_any_dtype(values):
        utc = values if values.dt.tz is None else values.dt.tz_convert("UTC").dt.tz_localize(None)
        return Column(name, "date", utc)
    if types.is_bool_dtype(values):
        return Column(name, "truth", values)
    if not types.is_numeric_dtype(values):
        return Column(name, "category", values)
    _check_size(table, name, values)
    return Column(name, "number", values)


def _converted(name: str, values: "pd.Series", wanted: str) -> "pd.Series":
    import pandas as pd

    try:
        if wanted == "number":
            return pd.to_numeric(values)
        if wanted in ("category", "text"):
            return values.astype(str).where(values.notna())
        if not pd.api.types.is_datetime64_any_dtype(values):
            if "%" in wanted:
                return pd.to_datetime(values, format=wanted)
            dates = pd.Series(pd.NaT, index=values.index, dtype="datetime64[us]")
            dates[values.notna()] = read_dates([str(value) for value in values.dropna()], "ISO8601").to_numpy()
            return dates
    except (ValueError, TypeError) as error:
        raise UserError(
            f"the column {name!r} cannot be read as {wanted} ({first_sentence(error)}): correct it, or choose "
            f"another type, as in {typed('data.types', {name: 'category'})}"
        ) from error
    return values


def _check_size(table: RawTable, name: str, values: "pd.Series") -> None:
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    bad = np.flatnonzero(np.abs(numbers) > _LARGEST)
    if bad.size:
        size = "infinite" if np.isinf(numbers[bad[0]]) else "beyond float32"
        raise UserError(
            f"the column {name!r} holds {numbers[bad[0]]:g} ({table.place(int(bad[0]))}, {bad.size} of {len(numbers)} "
            f"rows), which is {size}: correct it, or leave the column out: {typed('data.drop', [name])}"
        )
