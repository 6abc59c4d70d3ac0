"""Targets of new rows, where their file has them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from reglab.core.errors import UserError
from reglab.data.new_columns import labels_of, numbers_of
from reglab.data.new_rows import codes_of
from reglab.data.preprocessing import Preprocessing, RawColumn
from reglab.data.reader import Array
from reglab.data.source import Booleans, Floats
from reglab.data.table_options import Reading
from reglab.data.table_raw import RawTable
from reglab.tasks import Task, task_named
from reglab.tasks.multi import Multi


class NewTargets(NamedTuple):
    """Targets of the rows that have one.

    Args:
        values: As the task takes them, in training's unit, ``[known]`` or ``[known, columns]``.
        known: Which rows have one that training knew, ``[rows]``.
    """

    values: Tensor
    known: Booleans


def new_targets(preprocessing: Preprocessing, table: RawTable, reading: Reading) -> NewTargets | None:
    """Return the targets of new rows; None where the table lacks a column of them.

    Args:
        preprocessing: Of training.
        table: The new rows, raw.
        reading: Options.

    Raises:
        UserError: For a value that cannot be read.
    """
    values = target_columns(preprocessing, table, reading)
    return None if values is None else judged(preprocessing, values)


def target_columns(preprocessing: Preprocessing, table: RawTable, reading: Reading) -> Floats | None:
    """Return the target columns of new rows ``[rows, columns]``, classes as their numbers, NaN where
    there is none that training knew; None where the table lacks a column.
    """
    columns = preprocessing.targets
    if not columns or any(column.name not in table.columns for column in columns):
        return None
    found = []
    for column, classes in zip(columns, _classes(preprocessing, len(columns)), strict=True):
        labels = labels_of(column, table, reading) if classes is not None else []
        found.append(numbers_of(column, table, reading) if classes is None else _codes(labels, classes, column))
    return np.stack(found, axis=1)


def array_targets(preprocessing: Preprocessing, values: Array) -> NewTargets:
    """Return targets of an array, ``[rows]`` or ``[rows, columns]``, or ``[rows, ...]`` where the task
    has one at each position.

    Args:
        preprocessing: Of training.
        values: As in the file.

    Raises:
        UserError: For a shape that does not suit.
    """
    task = task_named(preprocessing.task)
    if task.reads == "dense":
        if wrong := task.check_targets(torch.from_numpy(values)):
            raise UserError(f"the targets do not suit the task {task.name} of the run: {wrong}")
        return NewTargets(torch.from_numpy(values.astype(np.int64)), np.ones(len(values), dtype=bool))
    columns = values.reshape(len(values), -1)
    wanted = 1 if task.classes and task.reads != "times" else len(preprocessing.target_names)
    if columns.shape[1] != wanted:
        raise UserError(
            f"the targets are {list(values.shape)}, and the run has {wanted} target column{'s' * (wanted > 1)}: give "
            "them as in training"
        )
    found = []
    for column, classes in zip(columns.T, _classes(preprocessing, wanted), strict=True):
        if classes is None:
            found.append(column.astype(np.float64))
        else:
            found.append(_codes([str(value) for value in column.tolist()], classes, RawColumn("targets", "number")))
    return judged(preprocessing, np.stack(found, axis=1))


def judged(preprocessing: Preprocessing, values: Floats) -> NewTargets:
    """Return target columns ``[rows, columns]`` as the task takes them, of the rows that have all."""
    task = task_named(preprocessing.task)
    known: Booleans = np.asarray(~np.isnan(values).any(axis=1))
    if preprocessing.target_scale:
        values = (values - np.array(preprocessing.target_center)) / np.array(preprocessing.target_scale)
    one = values.shape[1] == 1 and task.reads not in ("labels", "times") and not isinstance(task, Multi)
    shaped = values[known, 0] if one else values[known]
    if not task.classes and (wrong := task.check_targets(torch.from_numpy(shaped))):
        raise UserError(f"the target does not suit the task {task.name} of the run: {wrong}")
    made = torch.from_numpy(shaped)
    return NewTargets(made.long() if task.integers else made.double(), known)


def _classes(preprocessing: Preprocessing, columns: int) -> list[Sequence[str] | None]:
    """Return the names of each target column's classes; None where it holds numbers."""
    task: Task = task_named(preprocessing.task)
    if isinstance(task, Multi):
        return [names or None for names in preprocessing.class_names]
    return [preprocessing.target_names if task.classes else None] * columns


def _codes(labels: Sequence[str | None], classes: Sequence[str], column: RawColumn) -> Floats:
    codes = np.array(codes_of(labels, classes, column), dtype=np.float64)
    return np.where(codes < 0, np.nan, codes)
