"""Columns of new rows, read as those of training were, whatever type they come in."""

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from reglab.core.errors import UserError
from reglab.data.preprocessing import RawColumn
from reglab.data.source import Floats
from reglab.data.table_column import Texts, is_missing
from reglab.data.table_dates import date_features
from reglab.data.table_options import Reading
from reglab.data.table_raw import RawTable
from reglab.data.table_typed import typed_column
from reglab.data.table_types import TRUTH, as_dates, type_inputs

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_TRUTH = {**TRUTH, "1": True, "0": False, "1.0": True, "0.0": False}


def table_of(frame: "pd.DataFrame") -> RawTable:
    """Return a frame as a table.

    Raises:
        UserError: For two columns of one name.
    """
    names = [str(name) for name in frame.columns]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"two columns are called {twice!r}: give each its own name")
    columns = {name: frame.iloc[:, number].reset_index(drop=True) for number, name in enumerate(names)}
    return RawTable(columns, len(frame), lambda row: f"row {row + 1}")


def numbers_of(column: RawColumn, table: RawTable, reading: Reading) -> Floats:
    """Return a column of numbers or truth values as float64 ``[rows]``, NaN where it is missing.

    Args:
        column: As it was in training.
        table: The new rows.
        reading: Options.

    Raises:
        UserError: For a value that is no number.
    """
    values = _as_texts(table.columns[column.name])
    if values is None:
        return _typed_numbers(column.name, table)
    texts = _with(table, column.name, values)
    if column.type == "truth":
        return _truth(Texts(column.name, texts, reading.missing_texts))
    options = _reading(reading, column, "number")
    return np.asarray(type_inputs(texts, [column.name], [], options)[column.name].values.to_numpy(dtype=np.float64))


def labels_of(column: RawColumn, table: RawTable, reading: Reading) -> list[str | None]:
    """Return the value of a category of each row, as its labels are written; None: missing.

    Args:
        column: As it was in training.
        table: The new rows.
        reading: Options.

    Raises:
        UserError: For a text where labels are numbers.
    """
    if column.numeric:
        return [None if np.isnan(value) else f"{value:.17g}" for value in numbers_of(column, table, reading)]
    values = _as_texts(table.columns[column.name])
    if values is None:
        typed: pd.Series = table.columns[column.name]
        return [None if gone else _label(value) for value, gone in zip(typed, is_missing(typed), strict=True)]
    texts = Texts(column.name, _with(table, column.name, values), reading.missing_texts)
    series = texts.as_category(keep=column.text)
    return [None if gone else str(value) for value, gone in zip(series, is_missing(series), strict=True)]


def same_label(label: str, column: RawColumn) -> str:
    """Return a label such that two ways to write one value are one text: ``1`` and ``1.0``,
    ``true`` and ``True``.
    """
    if column.numeric:
        return f"{float(label):.17g}"
    if column.type == "number":  # of a target: classes that are numbers
        with suppress(ValueError):
            return f"{float(label):.17g}"
    return str(TRUTH.get(label, label.removesuffix(".0")))


def dates_of(column: RawColumn, table: RawTable, reading: Reading) -> dict[str, Floats]:
    """Return the parts of a column of dates by the name of their input, float64 ``[rows]``, NaN
    where it is missing.

    Args:
        column: As it was in training.
        table: The new rows.
        reading: Options.

    Raises:
        UserError: For a value that is no date.
    """
    values = _as_texts(table.columns[column.name])
    if values is not None:
        texts = Texts(column.name, _with(table, column.name, values), reading.missing_texts)
        wanted = column.form if "%" in column.form else "date"
        dates = as_dates(texts, wanted, f"the column {column.name!r}", _reading(reading, column, wanted)).values
    else:
        typed = typed_column(table, column.name)
        if typed.kind != "date" and not is_missing(typed.values).all():
            raise UserError(f"the column {column.name!r} holds {typed.kind} values, and dates in training: correct it")
        dates = typed.values if typed.kind == "date" else typed.values.astype("datetime64[us]")
    parts = date_features(column.name, dates)
    without_time = np.where(is_missing(dates), np.nan, 0.0)
    return {f"{column.name}_hour": without_time, **parts}


def _typed_numbers(name: str, table: RawTable) -> Floats:
    typed = typed_column(table, name)
    if typed.kind not in ("number", "truth"):
        raise UserError(f"the column {name!r} holds {typed.kind} values, and numbers in training: correct it")
    return np.asarray(typed.values.to_numpy(dtype=np.float64, na_value=np.nan))


def _truth(texts: Texts) -> Floats:
    if wrong := next((text for text in texts.distinct if text not in _TRUTH), None):
        raise UserError(f"the column {texts.name!r} holds {texts.at(wrong)}, and True or False in training: correct it")
    values: dict[str, Any] = {text: float(value) for text, value in _TRUTH.items()}
    return np.asarray(texts.spread(values, np.nan).to_numpy(dtype=np.float64))


def _label(value: Any) -> str:
    """Return a typed value as text; whole numbers without the ``.0`` that missing ones give them."""
    whole = isinstance(value, float | np.floating) and float(value).is_integer()
    return str(int(value)) if whole else str(value)


def _as_texts(column: Any) -> "pa.ChunkedArray | None":
    """Return a column that holds texts as such, empty where it is missing; None: it has a type."""
    if hasattr(column, "chunks"):
        return column
    from pandas import CategoricalDtype
    from pandas.api.types import infer_dtype, is_object_dtype, is_string_dtype

    if isinstance(column.dtype, CategoricalDtype):
        column = column.astype(object)
    if not (is_object_dtype(column) or is_string_dtype(column)):
        return None
    if infer_dtype(column, skipna=True) in ("date", "datetime"):
        return None
    import pyarrow as pa

    gone = is_missing(column)
    texts = ["" if missing else _label(value) for value, missing in zip(column, gone, strict=True)]
    return pa.chunked_array([pa.array(texts, pa.string())])


def _with(table: RawTable, name: str, values: "pa.ChunkedArray") -> RawTable:
    """Return the table with one column alone, as texts."""
    return RawTable({name: values}, table.rows, table.place, separator=table.separator)


def _reading(reading: Reading, column: RawColumn, kind: str) -> Reading:
    decimal = reading.decimal or (column.form if column.form in (".", ",") else ".")
    return Reading(decimal=decimal, missing=reading.missing, types={column.name: kind})
