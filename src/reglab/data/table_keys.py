"""Columns that are no inputs: the target, and the keys of groups and times."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from reglab.core.errors import UserError
from reglab.core.override import typed
from reglab.data.source import Integers
from reglab.data.table_column import Column, Texts, fast_numbers, integers, is_missing
from reglab.data.table_options import Reading
from reglab.data.table_raw import RawTable
from reglab.data.table_typed import typed_column
from reglab.data.table_types import as_dates, has_codes, type_inputs
from reglab.tasks import task_named
from reglab.tasks.find import target_of

if TYPE_CHECKING:
    import pandas as pd


def is_text(table: RawTable, name: str) -> bool:
    """Return whether a column holds texts as they stand in the file."""
    return hasattr(table.columns[name], "chunks")


def is_code(table: RawTable, name: str, task: str | Mapping[str, str], reading: Reading) -> bool:
    """Return whether a target holds codes: texts by the user's word, or digits that begin with 0.

    ``01`` and ``1`` are two classes, unless the task is one of numbers.
    """
    wanted = reading.kinds.get(name)
    if isinstance(task, Mapping):
        task = target_of(f"{name}={task[name]}", "data.task").task.name
    counted = task != "auto" and task_named(task).reads != "classes"
    if not is_text(table, name) or wanted is not None or counted:
        return wanted in ("category", "text")
    return has_codes(Texts(name, table, reading.missing_texts))


def read_target_column(table: RawTable, name: str, as_input: Column | None, reading: Reading) -> Column:
    """Return a target: numbers, truth values, or texts that are classes.

    Args:
        table: The file.
        name: Of the column.
        as_input: The column as an input would be read; None where it holds codes.
        reading: Options.

    Raises:
        UserError: Where a class may also mean a missing value, and for dates.
    """
    if as_input is not None and as_input.kind in ("number", "truth"):
        return as_input
    wanted = reading.kinds.get(name)
    if as_input is not None and as_input.kind == "date" and (wanted is not None or not is_text(table, name)):
        raise UserError(f"the target {name!r} holds dates, which cannot be predicted: choose another column")
    if not is_text(table, name):
        return as_input if as_input is not None else typed_column(table, name, wanted)
    texts = Texts(name, table, reading.missing_texts)
    if wanted is None:
        _ask_missing(texts, "target", reading)
    return Column(name, "category", texts.as_category(keep=wanted == "text"))


def _ask_missing(texts: Texts, key: str, reading: Reading) -> None:
    """Ask whether a text that usually means missing is a value of the column.

    Raises:
        UserError: Unless ``data.missing`` has decided.
    """
    if reading.missing is None and texts.missing_in_use:
        text = texts.missing_in_use[0]
        rows = len(texts.rows_of(text))
        raise UserError(
            f"data.{key}={texts.name} holds {texts.at(text)} in {rows} of "
            f"{texts.table.rows} rows: a value, or missing? {typed('data.types', {texts.name: 'text'})} keeps it as a "
            "value; rows where it is missing have to be deleted"
        )


def group_numbers(table: RawTable, name: str, reading: Reading, key: str = "group") -> Integers:
    """Return the number of each row's group, [rows].

    Each text is a group of its own (``0009`` and ``9`` are two). Groups are in numeric order where
    all of them are numbers, else in the order of their texts.

    Args:
        table: The file.
        name: Of the column.
        reading: Options.
        key: That names it, for messages.

    Raises:
        UserError: For missing values, and for one number in two notations (``1`` and ``1.0``)
    """
    wanted = reading.kinds.get(name)
    if not is_text(table, name) or wanted in ("number", "date"):
        values = _typed(table, name, reading)
        check_complete(values, key, name, table)
        sortable = values.to_numpy() if values.dtype.kind in "iufbM" else values.astype(str).to_numpy(dtype=str)
        return np.unique(sortable, return_inverse=True)[1].astype(np.int64)
    texts = Texts(name, table, reading.missing_texts)
    if wanted is None:
        _ask_missing(texts, key, reading)
    keys = texts.as_category(keep=wanted == "text")
    check_complete(keys, key, name, table)
    labels, codes = np.unique(keys.to_numpy(dtype=str), return_inverse=True)
    order = _numeric_order(texts, [str(label) for label in labels], asked=wanted is None)
    return codes.astype(np.int64) if order is None else order[codes]


def _typed(table: RawTable, name: str, reading: Reading) -> "pd.Series":
    if is_text(table, name):
        return type_inputs(table, [name], [], reading)[name].values
    return typed_column(table, name, reading.kinds.get(name)).values


def _numeric_order(texts: Texts, labels: list[str], asked: bool) -> Integers | None:
    """Return the rank of each label as a number, None where not all are numbers, or two are the
    same.
    """
    values = [_value(label) for label in labels]
    by_value: dict[float, str] = {}
    for label, value in zip(labels, values, strict=True):
        if value is None:
            continue
        other = by_value.setdefault(value, label)
        if other != label and asked and not {other, label} & {text for text in labels if re.match(r"\s*0\d", text)}:
            raise UserError(
                f"data.group={texts.name} holds {texts.at(other.strip())} and {texts.at(label.strip())}: one group or "
                f"two? {typed('data.types', {texts.name: 'number'})} reads one, "
                f"{typed('data.types', {texts.name: 'text'})} two"
            )
    if None in values or len(by_value) < len(labels):
        return None
    rank = {value: number for number, value in enumerate(sorted(by_value))}
    return np.array([rank[value] for value in values if value is not None], dtype=np.int64)


def _value(text: str) -> int | float | None:
    if re.fullmatch(r"\s*[+-]?\d+\s*", text):
        return int(text)
    if re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", text):
        return float(text)
    return None


def time_numbers(table: RawTable, name: str, reading: Reading) -> Integers:
    """Return the number of each row's time among the sorted times, [rows].

    Times are numbers, or dates; those with an offset from UTC are ordered as moments.

    Raises:
        UserError: For missing values and for texts that are neither.
    """
    moments = _moments(table, name, reading)
    check_complete(moments, "time", name, table)
    return np.unique(moments.to_numpy(), return_inverse=True)[1].astype(np.int64)


def _moments(table: RawTable, name: str, reading: Reading) -> "pd.Series":
    import pandas as pd

    wanted = reading.kinds.get(name)
    if not is_text(table, name):
        values: pd.Series = table.columns[name]
        if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_datetime64_any_dtype(values):
            return values
        return typed_column(table, name, wanted or "date").values
    texts = Texts(name, table, reading.missing_texts)
    if wanted in (None, "number") and (whole := integers(texts)) is not None:
        return pd.Series(whole)
    if wanted in (None, "number") and (numbers := fast_numbers(texts, reading.missing is not None)) is not None:
        return pd.Series(numbers)
    # 01/02/2024 is two dates: guessing could test on the past.
    return as_dates(texts, wanted, f"data.time={name}", reading).values


def check_complete(column: "pd.Series", key: str, name: str, table: RawTable) -> None:
    """Check that the column ``name``, which ``data.KEY`` gives, has a value in every row.

    Raises:
        UserError: Naming the first row without.
    """
    missing = np.flatnonzero(is_missing(column))
    if missing.size:
        raise UserError(
            f"data.{key}={name} is missing in {missing.size} of {len(column)} rows, first in row "
            f"{missing[0] + 1} below the header ({table.place(int(missing[0]))}): fill these values in or delete the "
            "rows"
        )
