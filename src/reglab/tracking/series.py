"""The full series of a run whose store holds a thinned part of them."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from reglab.tracking.lines import Row, lines
from reglab.tracking.points import Thinning


class Series(NamedTuple):
    """All metric rows of a run, by key and step. key: the place in ``names``. timestamp: milliseconds since 1970."""

    names: list[str]
    key: npt.NDArray[np.int32]
    step: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]
    timestamp: npt.NDArray[np.int64]


def read_series(journal: Path) -> Series:
    """Return all metric rows of a journal."""
    numbers: dict[str, int] = {}
    codes: list[int] = []
    values: list[float] = []
    line: list[tuple[int, int, int]] = []  # step, time, number of rows
    for content, _ in lines(journal):
        if metrics := content.get("metrics"):
            codes.extend([numbers.setdefault(key, len(numbers)) for key in metrics])
            values.extend(metrics.values())
            line.append((content["step"], content["time"], len(metrics)))
    steps, times, lengths = np.array(line, np.int64).reshape(-1, 3).T
    key, step = np.array(codes, np.int32), np.repeat(steps, lengths)
    order = np.lexsort((step, key))
    value, timestamp = np.array(values, np.float64), np.repeat(times, lengths)
    return Series(list(numbers), key[order], step[order], value[order], timestamp[order])


def complete(journal: Path, rule: Thinning, path: Path) -> tuple[str, list[Row]] | None:
    """Write all rows of a journal to ``path`` as Parquet if ``rule`` left any out; None if it did not.

    The columns are key, step, value and timestamp. Returned are (how many points of the longest series the store has,
    in words; the last row of each series whose last row was left out, for the store to have it too).
    """
    names, key, step, value, timestamp = series = read_series(journal)
    results = np.array([rule.always(name) for name in names], bool)
    distinct, place = np.unique(step, return_inverse=True)
    kept = results[key] | np.array([rule.keeps("", each) for each in distinct.tolist()], bool)[place]
    if kept.all():
        return None
    text = pa.DictionaryArray.from_arrays(key, names).dictionary_decode()
    pq.write_table(pa.table({"key": text, "step": step, "value": value, "timestamp": timestamp}), path)
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    lengths = np.diff(starts, append=len(key))
    ends = starts + lengths - 1
    late = ends[~kept[ends]]
    kept[late] = True
    longest = int(np.argmax(lengths))
    sent = int(kept[starts[longest] : ends[longest] + 1].sum())
    rows = [_row(series, at) for at in late.tolist()]
    return f"{sent} of {lengths[longest]}; all in {path.name}", rows


def _row(series: Series, at: int) -> Row:
    return Row(
        series.names[int(series.key[at])], float(series.value[at]), int(series.timestamp[at]), int(series.step[at])
    )
