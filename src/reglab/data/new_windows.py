"""Windows of new rows of series: those behind which the forecasts are, and all that have a target."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from reglab.core.errors import UserError, nearest
from reglab.data.new_columns import numbers_of
from reglab.data.preprocessing import Preprocessing
from reglab.data.reader import Array
from reglab.data.source import Floats, Integers
from reglab.data.table_keys import group_numbers, time_numbers
from reglab.data.table_options import Reading
from reglab.data.table_raw import RawTable
from reglab.data.windowed import Windows


class NewSeries(NamedTuple):
    """New rows of series, one behind the other, each in order of time.

    Args:
        values: Of the input columns, float64 ``[times, columns]``.
        order: The row of the file that each is.
        firsts, sizes: Of each series, its first row among ``values``, and how many it has.
        windows: How windows are cut.
    """

    values: Floats
    order: Integers
    firsts: Integers
    sizes: Integers
    windows: Windows

    def at(self, starts: Integers) -> Array:
        """Return the windows ``[windows, columns, length]`` that begin at some rows."""
        cut: Array = sliding_window_view(self.values, self.windows.length, axis=0)
        return cut[starts]


def new_series(preprocessing: Preprocessing, rows: RawTable | Array, reading: Reading) -> NewSeries:
    """Return the series in a table, or in an array ``[times, columns]`` of one.

    Args:
        preprocessing: Of training.
        rows: Raw.
        reading: Options by which texts are read.

    Raises:
        UserError: For a column that is missing, a value that is none, and a series that is shorter
            than a window.
    """
    windows = preprocessing.windows
    assert windows is not None, "the rows are windows"
    names = [column.name for column in preprocessing.columns]
    if isinstance(rows, RawTable):
        count = rows.rows
        keys = [name for name in (windows.series, windows.time) if name]
        if lacking := [name for name in (*names, *keys) if name not in rows.columns]:
            raise UserError(
                f"the new rows lack the column {lacking[0]!r}, which the model was trained on; "
                f"{nearest(lacking[0], rows.columns)}"
            )
        values = np.stack([numbers_of(column, rows, reading) for column in preprocessing.columns], axis=1)
        series = group_numbers(rows, windows.series, reading, "series") if windows.series else None
        time = time_numbers(rows, windows.time, reading) if windows.time else None
    else:
        count, series, time = len(rows), None, None
        values = _of_array(rows, names)
    series = np.zeros(count, dtype=np.int64) if series is None else series
    time = np.arange(count) if time is None else time
    order = np.lexsort((time, series))
    missing = np.argwhere(~np.isfinite(values))
    if len(missing):
        row, column = missing[0]
        raise UserError(
            f"the column {names[column]!r} has no finite value in row {row}, counted from 0: fill it in, such as by "
            "interpolation"
        )
    if ((np.diff(time[order]) == 0) & (np.diff(series[order]) == 0)).any():
        raise UserError(f"the column {windows.time!r} holds one time twice in a series: delete one of the rows")
    sizes = np.bincount(series)
    return NewSeries(values[order], order, np.cumsum(sizes) - sizes, sizes, windows)


def last_windows(found: NewSeries, rows: RawTable | Array) -> tuple[Array, dict[str, Any]]:
    """Return the last window of each series, and what names it: its series, and its last time.

    Args:
        found: The series.
        rows: Of the file.

    Raises:
        UserError: For a series that is shorter than a window.
    """
    length, ends = found.windows.length, found.firsts + found.sizes
    columns = rows.columns if isinstance(rows, RawTable) else {}
    keys = [name for name in (found.windows.series, found.windows.time) if name]
    named = {name: _chosen(columns[name], found.order[ends - 1]) for name in keys}
    if (short := np.flatnonzero(found.sizes < length)).size:
        which = f"the series {named[found.windows.series][short[0]]}" if found.windows.series else "the series"
        raise UserError(
            f"{which} has {found.sizes[short[0]]} rows, and the model forecasts from the last {length}: give it the "
            "rows before them, too"
        )
    return found.at(ends - length), named


def judged_starts(found: NewSeries) -> Integers:
    """Return where the windows begin that have their targets within their series."""
    ahead, length, step = max(found.windows.ahead), found.windows.length, found.windows.step
    last = found.firsts + found.sizes - length - ahead
    ranges = [np.arange(first, end + 1, step) for first, end in zip(found.firsts, last, strict=True)]
    starts = np.concatenate(ranges).astype(np.int64)
    if not len(starts):
        raise UserError(
            f"no series has the {length + ahead} rows that a window and its target need; the longest has "
            f"{found.sizes.max(initial=0)}: give more rows"
        )
    return starts


def _of_array(rows: Array, names: Sequence[str]) -> Floats:
    values = rows.reshape(len(rows), -1) if rows.ndim else rows
    needed = max(map(int, names)) + 1 if all(name.isdigit() for name in names) else None
    if needed is None:
        raise UserError(f"the model takes the columns {', '.join(names)} of a table: give a table")
    if rows.ndim not in (1, 2) or rows.dtype.kind not in "fiub" or values.shape[1] < needed:
        raise UserError(
            f"the new rows are {rows.dtype} {list(rows.shape)}, and the model takes numbers [times, columns] with at "
            f"least {needed} columns"
        )
    chosen: Floats = values[:, [int(name) for name in names]].astype(np.float64)
    return chosen


def _chosen(column: Any, rows: Integers) -> Any:
    """Return some values of a column, as they stand in the file."""
    if hasattr(column, "chunks"):
        return column.take(rows).to_pandas()
    return column.iloc[rows].reset_index(drop=True)


def keys_of(preprocessing: Preprocessing) -> Mapping[str, str]:
    """Return the columns beside the inputs that new rows need, with what each is for."""
    windows = preprocessing.windows
    found = {"query": preprocessing.query, "series": windows and windows.series, "time": windows and windows.time}
    return {name: key for key, name in found.items() if name}
