"""Copies of a run for other tools: all metric rows as CSV, for TensorBoard, for W&B and for trackio.

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

CurveFile = Literal["csv", "tensorboard", "wandb", "trackio"]
# What each leaves in the run's folder; trackio has a folder of its own.
CURVE_FILES: Mapping[str, str] = MappingProxyType(
    {"csv": "metrics.csv", "tensorboard": "events.out.tfevents.reglab", "wandb": "wandb-reglab"}
)


def check_curve_files(names: object, experiment: str = "") -> tuple[CurveFile, ...]:
    """Return the names that ``tracking.also`` gives: one, several or None.

    Args:
        names: As they are written.
        experiment: The name of the study, by which other tools call the project.

    Raises:
        UserError: For a name that is unknown, or whose package is not installed or could not take
            the run.
    """
    if names is None:
        return ()
    given = [names] if isinstance(names, str) else names
    if not isinstance(given, Sequence) or not all(isinstance(name, str) for name in given):
        raise UserError(f"tracking.also={names}: give a list, such as tracking.also=[csv,tensorboard]")
    known = get_args(CurveFile)
    for name in given:
        if name not in known:
            raise UserError(f"tracking.also={name}: there is no such tool; {nearest(name, known)}")
        if name != "csv" and importlib.util.find_spec(name) is None:
            raise UserError(
                f"tracking.also=[{name}] needs the package {name}: pip install {name}, or give tracking.also=[csv]"
            )
    if "wandb" in given:
        from reglab.tracking.wandb_copy import check_wandb

        check_wandb()
    if "trackio" in given:
        from reglab.tracking.trackio_copy import check_trackio

        check_trackio(experiment)
    return cast(tuple[CurveFile, ...], tuple(dict.fromkeys(given)))


def write_curve_files(journal: Path, names: Sequence[str], status: str = "FINISHED") -> None:
    """Write all metric rows of a journal for other tools; what was written before is replaced.

    What cannot be written is logged: the run itself is safe in its journal.

    Args:
        journal: Of the run, which has ended.
        names: As ``check_curve_files`` returns them; others are passed over.
        status: How it ended.
    """
    wanted = [name for name in get_args(CurveFile) if name in names]
    if not wanted:
        return
    from reglab.tracking.full_series import read_series  # late: pyarrow

    curves = read_series(journal)
    for name in wanted if curves else ():
        where = journal.parent / CURVE_FILES.get(name, name)
        try:
            _write(name, journal.parent, curves, status)
        except Exception as error:  # noqa: BLE001 - what other packages raise: the run is to end as it would without
            _log.warning(
                "%s could not be written (%s). The run is complete without it: its rows are in %s.",
                where, error, journal,
            )  # fmt: skip


def _write(name: str, folder: Path, curves: Mapping[str, "Curve"], status: str) -> None:
    writers: Mapping[str, Callable[[BinaryIO, Mapping[str, Curve]], None]]
    writers = {"csv": _write_csv, "tensorboard": _write_events}
    if name in writers:
        with atomic_write.writing(folder / CURVE_FILES[name]) as file:
            return writers[name](file, curves)
    if name == "wandb":
        from reglab.tracking.wandb_copy import write_wandb

        return write_wandb(folder, folder / CURVE_FILES[name], curves, status)
    from reglab.tracking.trackio_copy import write_trackio

    return write_trackio(folder, curves)


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
