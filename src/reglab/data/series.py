"""One or several series of numbers, from a table or a ``.npy`` file, in order of time."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from reglab.core.errors import UserError
from reglab.core.override import typed
from reglab.data.array_reader import mapped
from reglab.data.reader import Array
from reglab.data.source import Floats, Integers
from reglab.data.table_column import Column
from reglab.data.table_file import check_columns, read_table
from reglab.data.table_keys import group_numbers, is_code, read_target_column, time_numbers
from reglab.data.table_options import Reading
from reglab.data.table_types import type_inputs


class Series(NamedTuple):
    """Series, one after the other, each in order of time.

    Args:
        values: float64 ``[times, columns]``.
        names: Of the columns.
        target: Numbers, or classes, ``[times]``.
        time: The number of each row's time among all times, from 0.
        series: The number of each row's series.
        columns: Of a table, as they were read: the inputs, and behind them the target.
    """

    values: Floats
    names: tuple[str, ...]
    target: Array
    time: Integers
    series: Integers
    columns: tuple[Column, ...] = ()


def read_series(
    path: str,
    reading: Reading,
    target: str,
    columns: Sequence[str] | None,
    series: str | None,
    time: str | None,
    at_once: bool,
) -> Series:
    """Return the series of a file.

    Args:
        path: Of a table, or of an array ``[times]`` or ``[times, columns]``, whose columns are
            called 0, 1, ...
        reading: How a table is read.
        target: The column to predict.
        columns: Of the inputs; None: all others, and the target, which is known up to a window's
            last time.
        series: The column that tells series apart; None: there is one.
        time: The column of the times; None: rows are in order of time.
        at_once: The target is that of a window's last time, and so no input.

    Raises:
        UserError: For columns that cannot be used, and two rows of a series at one time.
    """
    if Path(path).suffix == ".npy":
        if series is not None or time is not None:
            raise UserError("data.series and data.time name columns of a table, and data.path is a .npy file")
        found = _of_array(Path(path).expanduser(), target, columns, at_once)
    else:
        found = _of_table(path, reading, target, columns, series, time, at_once)
    order = np.lexsort((found.time, found.series))
    time_of, series_of = found.time[order], found.series[order]
    ordered = Series(found.values[order], found.names, found.target[order], time_of, series_of, found.columns)
    same = (np.diff(ordered.time) == 0) & (np.diff(ordered.series) == 0)
    if same.any():
        raise UserError(
            f"data.time={time} holds one time twice in {'a' if series else 'the'} series (rows {order[:-1][same][0]} "
            f"and {order[1:][same][0]}, counted from 0): tell series apart by data.series=COLUMN, or delete one of them"
        )
    missing = np.argwhere(~np.isfinite(ordered.values))
    if len(missing):
        row, column = missing[0]
        raise UserError(
            f"the column {found.names[column]!r} has no finite value in row {order[row]}, counted from 0: fill it in, "
            "such as by interpolation, or leave the column out by data.columns=[...]"
        )
    return ordered


def _inputs(
    columns: Sequence[str] | None, known: Sequence[str], unused: set[str], target: str, at_once: bool
) -> list[str]:
    """Return the names of the input columns."""
    if columns is not None:
        chosen = check_columns(list(known), "columns", [str(name) for name in columns])
        if at_once and target in chosen:
            raise UserError(
                f"data.columns has the target {target!r}, whose value at a window's last time is to be predicted "
                "(data.horizon has 0): leave it out, or predict a later one by data.horizon=1"
            )
        return chosen
    chosen = [name for name in known if name not in unused and not (at_once and name == target)]
    if not chosen:
        raise UserError(f"no input column is left beside {target!r}: predict a later time by data.horizon=1")
    return chosen


def _check_numbers(kinds: Mapping[str, str]) -> None:
    """Refuse input columns that are no numbers, with what they may be instead."""
    numbers = [name for name, kind in kinds.items() if kind in ("number", "truth")]
    for name, kind in kinds.items():
        if name not in numbers:
            role = "time" if kind == "date" else "series"
            raise UserError(
                f"the column {name!r} holds no numbers, as inputs of windows are: if it tells the {role}, "
                f"{typed(f'data.{role}', name)}; otherwise leave it out, {typed('data.columns', numbers)}"
            )


def _of_array(path: Path, target: str, columns: Sequence[str] | None, at_once: bool) -> Series:
    values = np.array(mapped(path, "path"))
    if values.dtype.kind not in "fiub" or values.ndim not in (1, 2):
        shape = list(values.shape)
        raise UserError(f"data.path={path} holds {values.dtype} {shape}: it must be numbers [times, columns]")
    values = values.reshape(len(values), -1)
    known = [str(number) for number in range(values.shape[1])]
    (target,) = check_columns(known, "target", [target])
    names = _inputs(columns, known, set(), target, at_once)
    chosen = values[:, [int(name) for name in names]].astype(np.float64)
    rows = np.arange(len(values))
    return Series(chosen, tuple(names), values[:, int(target)], rows, np.zeros_like(rows))


def _of_table(
    path: str,
    reading: Reading,
    target: str,
    columns: Sequence[str] | None,
    series: str | None,
    time: str | None,
    at_once: bool,
) -> Series:
    file = read_table(path, reading)
    known = list(file.columns)
    check_columns(known, "types", reading.kinds)
    (target,) = check_columns(known, "target", [target])
    steering = [check_columns(known, key, [name])[0] for key, name in (("series", series), ("time", time)) if name]
    if target in steering:
        raise UserError(f"data.target={target} also tells series or times: name another column")
    code = is_code(file, target, "auto", reading)
    names = _inputs(columns, known, {*steering, *([target] if code else [])}, target, at_once)
    together = dict.fromkeys([*names, *([] if code else [target])])
    columns_by_name = type_inputs(file, list(together), [], reading)
    kind = read_target_column(file, target, columns_by_name.get(target), reading)
    if columns is None and kind.kind not in ("number", "truth"):
        names = [name for name in names if name != target]
    _check_numbers({name: columns_by_name[name].kind for name in names})
    values = [columns_by_name[name].values.to_numpy(dtype=np.float64, na_value=np.nan) for name in names]
    rows = np.arange(file.rows)
    return Series(
        np.stack(values, axis=1),
        tuple(names),
        kind.values.to_numpy(),
        rows if time is None else time_numbers(file, time, reading),
        np.zeros_like(rows) if series is None else group_numbers(file, series, reading),
        (*(columns_by_name[name] for name in names), kind),
    )
