"""Windows of a series: the past as inputs, a later value as the target."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from reglab.core.errors import UserError
from reglab.data.checks import whole
from reglab.data.series import Series, read_series
from reglab.data.source import Integers, Source
from reglab.data.stream_choice import is_streamed
from reglab.data.table_options import Reading
from reglab.data.table_target import TaskOrTasks, targets_of
from reglab.data.window_reader import WindowReader
from reglab.data.windowed import Windowed, Windows


def windows(
    *,
    path: str | None = None,
    target: str | None = None,
    columns: Sequence[str] | str | None = None,
    length: int = 24,
    horizon: int | Sequence[int] = 1,
    step: int = 1,
    series: str | None = None,
    time: str | None = None,
    task: TaskOrTasks = "auto",
    split: str = "time",
    stream: bool | str = "auto",
    workers: int = 0,
    separator: str | None = None,
    decimal: str | None = None,
    missing: str | Sequence[object] | None = None,
    encoding: str | None = None,
    header: bool | None = None,
    sheet: str | None = None,
    types: Mapping[str, str] | None = None,
) -> Source:
    """Return the windows of the series in a table, or in a ``.npy`` file ``[times, columns]``.

    A window has ``length`` times, one row each; its target is ``horizon`` rows after the last of
    them, in the same series.

    Args:
        path: Of the file.
        target: The column to predict.
        columns: Of the inputs; None: all columns, the target's past among them.
        length: Times of a window.
        horizon: How many rows after its last one the target is; 0: at the last one; a list: several
            targets.
        step: Rows from a window's first to that of the next.
        series: The column that tells series apart; None: there is one.
        time: The column of the times; None: rows are in order of time.
        task: ``auto``, or a name of ``reglab.tasks``.
        split: ``time`` alone: windows overlap, and a random split would train on what it tests.
        stream: Cut windows anew in each epoch, rather than keep all of them in memory; ``auto``:
            where they do not fit into the free memory.
        workers: Processes that cut streamed windows.
        separator, decimal, missing, encoding, header, sheet, types: See ``Reading``.

    Raises:
        UserError: For a file and columns that cannot be used.
    """
    if path is None or target is None:
        raise UserError("data=windows needs a series and a column to predict: data.path=load.csv data.target=load")
    if split != "time":
        raise UserError(
            f"data.split={split}: windows overlap, so that it would test on what it trained on; leave it at time"
        )
    steps = _horizons(horizon)
    names = [str(columns)] if isinstance(columns, str | int) else columns
    reading = Reading(separator, decimal, missing, encoding, header, None if sheet is None else str(sheet), types)
    found = read_series(str(path), reading, str(target), names, series, time, at_once=0 in steps)
    starts = _starts(found, whole("length", length, 1), max(steps), whole("step", step, 1))
    reader = WindowReader(found.values, starts, length)
    ends = starts[:, None] + length - 1 + np.array(steps)
    chosen = targets_of(found.target[ends] if len(steps) > 1 else found.target[ends[:, 0]], task)
    what = f"{len(starts)} windows of {length} times and {len(found.names)} columns"
    shorter = "fewer windows (data.step) or shorter ones (data.length)"
    return Source(
        task=chosen.task,
        numeric=np.empty((0, 0)),
        numeric_names=tuple(f"{name}[{lag}]" for name in found.names for lag in range(1 - length, 1)),
        targets=chosen.targets,
        class_names=chosen.class_names,
        target_names=chosen.target_names if len(steps) == 1 else tuple(f"{target}+{each}" for each in steps),
        shape=reader.shape,
        standardize_target=True,
        time=found.time[starts],
        spans=np.stack([found.time[starts], found.time[ends.max(axis=1)]], axis=1),
        name=Path(str(path)).stem,
        reader=reader,
        windowed=Windowed(
            Windows(length, step, tuple(steps), series, time), found.names, str(target), found.columns, reading
        ),
        stream=is_streamed(stream, len(reader) * reader.row_bytes, what, lambda _: shorter),
        workers=whole("workers", workers, 0),
    )


def _horizons(horizon: int | Sequence[int]) -> list[int]:
    several = isinstance(horizon, Sequence) and not isinstance(horizon, str)
    steps = [whole("horizon", each, 0) for each in (horizon if several else [horizon])]  # type: ignore[union-attr]
    if not steps or len(set(steps)) < len(steps):
        raise UserError(f"data.horizon={horizon} must be a number of rows, or a list of different ones, as in [1,2,3]")
    return steps


def _starts(found: Series, length: int, ahead: int, step: int) -> Integers:
    """Return the first row of each window that has its target within its series."""
    sizes = np.bincount(found.series)
    firsts = np.cumsum(sizes) - sizes
    last = firsts + sizes - length - ahead
    joined = np.concatenate([np.arange(*ends, step) for ends in zip(firsts, last + 1, strict=True)]).astype(np.int64)
    if not len(joined):
        raise UserError(
            f"no series has the {length + ahead} rows that data.length={length} and data.horizon={ahead} need; the "
            f"longest has {sizes.max()}: choose a smaller data.length"
        )
    return joined
