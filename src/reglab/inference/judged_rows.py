"""Rows of files with their targets, by which a trained model is measured."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from reglab.core.errors import UserError
from reglab.data.array_reader import mapped
from reglab.data.new_windows import judged_starts, new_series
from reglab.data.parquet_columns import ParquetColumns, parquet_files
from reglab.data.preprocessing import Preprocessing
from reglab.data.reader import Array
from reglab.data.table_raw import RawTable
from reglab.inference.predictor import Predictor
from reglab.inference.row_files import Rows, are_images, image_files, pieces, series_rows
from reglab.inference.targets import NewTargets, array_targets, judged, new_targets, target_columns


class Judged(NamedTuple):
    """Some rows with their targets."""

    rows: Rows
    targets: NewTargets


def judged_rows(predictor: Predictor, path: Path, targets: Path | None) -> Iterator[Judged]:
    """Yield the rows of a file in order, with the targets that training knew.

    Args:
        predictor: Of the run.
        path: A table, or series, with the target columns; images in a folder for each class; a
            ``.npy`` file, with ``targets``.
        targets: A ``.npy`` file with the targets of another; None: there is none.

    Raises:
        UserError: For rows without targets, and what cannot be read.
    """
    read = predictor.preprocessing
    images = are_images(path, read)
    if targets is not None and (read.windows or images):
        raise UserError(f"data.targets={targets} is of .npy files of rows: leave it out")
    if read.windows:
        yield _windows(predictor, path)
        return
    if images:
        _check_classes(read, path)
    known = None if targets is None else np.array(mapped(targets, "targets"))
    seen = 0
    for rows, named, first in pieces(path, predictor, whole=predictor.task.reads == "queries"):
        seen = first + (rows.rows if isinstance(rows, RawTable) else len(rows))
        if isinstance(rows, RawTable):
            found = _of_table(predictor, rows, path, targets)
        elif images:
            found = array_targets(read, np.array([_class_of(name) for name in named["file"]]))
        else:
            known = _of_parquet(path, read) if known is None else known
            _check_length(known, seen)
            found = array_targets(read, known[first:seen])
        yield Judged(rows, found)
    if known is not None:
        _check_length(known, seen, whole=True)


def _check_length(known: Array, rows: int, whole: bool = False) -> None:
    """Refuse targets that are fewer than the rows so far, or another number than all of them."""
    if len(known) < rows or (whole and len(known) > rows):
        raise UserError(
            f"data.targets has {len(known)} rows, and data.path {'has' if whole else 'at least'} {rows}: give a target "
            "for each row"
        )


def _of_table(predictor: Predictor, rows: RawTable, path: Path, targets: Path | None) -> NewTargets:
    if targets is not None:
        raise UserError(f"data.targets={targets} is of .npy files, and a table has its targets: leave it out")
    read = predictor.preprocessing
    found = new_targets(read, rows, predictor.reading)
    if found is None:
        names = ", ".join(column.name for column in read.targets) or "that reglab test can read"
        raise UserError(f"data.path={path} has no target ({names}): add it, or use reglab predict")
    return found


def _check_classes(read: Preprocessing, path: Path) -> None:
    if not any(_class_of(name) in read.target_names for name in image_files(path)):
        raise UserError(
            f"data.path={path} has no image in a folder called as a class of training "
            f"({', '.join(read.target_names)}): put those of each class into one"
        )


def _class_of(file: str) -> str:
    """Return the folder of an image, which names its class."""
    return file.partition("/")[0]


def _of_parquet(path: Path, read: Preprocessing) -> Array:
    """Return the target columns of Parquet files."""
    if not read.targets or path.suffix.lower() == ".npy":
        raise UserError(f"data.path={path} has no targets in it: give their file, too, data.targets=y.npy")
    columns = ParquetColumns(parquet_files(str(path)))
    names = columns.chosen([column.name for column in read.targets], "path")
    values = [columns.values(name) for name in names]
    return values[0] if len(values) == 1 else np.stack(values, axis=1)


def _windows(predictor: Predictor, path: Path) -> Judged:
    """Return all windows that have their targets within their series."""
    read, rows = predictor.preprocessing, series_rows(path, predictor)
    series = new_series(read, rows, predictor.reading)
    windows = series.windows
    if isinstance(rows, RawTable):
        column = target_columns(read, rows, predictor.reading)
        if column is None:
            raise UserError(f"data.path={path} has no column {read.targets[0].name}: add it, or use reglab predict")
    else:
        number = int(read.targets[0].name)
        column = rows.reshape(len(rows), -1)[:, [number]].astype(np.float64)
    starts = judged_starts(series)
    ends = starts[:, None] + windows.length - 1 + np.array(windows.ahead)
    return Judged(series.at(starts), judged(read, column[series.order][ends, 0]))
