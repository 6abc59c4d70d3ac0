"""Curve files: all metric rows of a run as CSV or as a TensorBoard event file, in its folder.

They are written from the journal, whole, when the run ends, so that a run that was killed and
resumed has each row once.
"""

import importlib.util
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO, Literal, cast, get_args

from reglab.core import atomic_write
from reglab.core.errors import UserError, nearest

if TYPE_CHECKING:
    from reglab.tracking.full_series import Curve

_log = logging.getLogger(__name__)

CurveFile = Literal["csv", "tensorboard"]
CURVE_FILES: Mapping[str, str] = MappingProxyType({"csv": "metrics.csv", "tensorboard": "events.out.tfevents.reglab"})
_READ_BY_OTHERS = ("wandb", "trackio")


def check_curve_files(names: object) -> tuple[CurveFile, ...]:
    """Return the names that ``tracking.also`` gives: one, several or None.

    Raises:
        UserError: For a name that is unknown, or whose package is not installed.
    """
    if names is None:
        return ()
    given = [names] if isinstance(names, str) else names
    if not isinstance(given, Sequence) or not all(isinstance(name, str) for name in given):
        raise UserError(f"tracking.also={names}: give a list, such as tracking.also=[csv,tensorboard]")
    known = get_args(CurveFile)
    for name in given:
        if name in _READ_BY_OTHERS:
            raise UserError(
                f"tracking.also={name}: give tracking.also=[tensorboard], whose event file {name} imports "
                "(see Coming from Lightning)"
            )
        if name not in known:
            raise UserError(f"tracking.also={name}: there is no such file; {nearest(name, known)}")
    if "tensorboard" in given and importlib.util.find_spec("tensorboard") is None:
        raise UserError(
            "tracking.also=[tensorboard] needs the package tensorboard: pip install tensorboard, or give "
            "tracking.also=[csv]"
        )
    return cast(tuple[CurveFile, ...], tuple(dict.fromkeys(given)))


def write_curve_files(journal: Path, names: Sequence[str]) -> None:
    """Write all metric rows of a journal to files beside it; earlier ones are replaced.

    What cannot be written is logged: the run itself is safe in its journal.

    Args:
        journal: Of the run, which has ended.
        names: As ``check_curve_files`` returns them; others are passed over.
    """
    writers: Mapping[str, Callable[[BinaryIO, Mapping[str, Curve]], None]]
    writers = {"csv": _write_csv, "tensorboard": _write_events}
    wanted = [name for name in writers if name in names]
    if not wanted:
        return
    from reglab.tracking.full_series import read_series  # late: pyarrow

    curves = read_series(journal)
    for name in wanted if curves else ():
        path = journal.parent / CURVE_FILES[name]
        try:
            with atomic_write.writing(path) as file:
                writers[name](file, curves)
        except (OSError, ImportError) as error:
            _log.warning(
                "%s could not be written (%s). The run is complete without it: its rows are in %s.",
                path, error, journal,
            )  # fmt: skip


def _write_csv(file: BinaryIO, curves: Mapping[str, "Curve"]) -> None:
    """Write a row for each step, a column for each key; where a key has no value the cell is empty."""
    import numpy as np
    import pyarrow as pa
    from pyarrow.csv import write_csv

    steps = np.unique(np.concatenate([curve.step for curve in curves.values()]))
    columns = [pa.array(steps)]
    for curve in curves.values():
        rows = np.searchsorted(steps, curve.step)
        values, missing = np.zeros(len(steps)), np.ones(len(steps), bool)
        values[rows], missing[rows] = curve.value, False
        columns.append(pa.array(values, mask=missing))
    write_csv(pa.table(columns, ["step", *curves]), file)


def _write_events(file: BinaryIO, curves: Mapping[str, "Curve"]) -> None:
    """Write scalars, by time, with the times of the journal; TensorBoard keeps single precision."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    rows = [
        (timestamp, step, key, value)
        for key, curve in curves.items()
        for step, value, timestamp in zip(*(column.tolist() for column in curve), strict=True)
    ]
    rows.sort(key=lambda row: row[:2])
    writer = RecordWriter(file)
    writer.write(Event(wall_time=rows[0][0] / 1000, file_version="brain.Event:2").SerializeToString())
    for timestamp, step, key, value in rows:
        summary = Summary(value=[Summary.Value(tag=key, simple_value=value)])
        writer.write(Event(wall_time=timestamp / 1000, step=step, summary=summary).SerializeToString())
