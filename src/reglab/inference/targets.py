"""Targets of new rows, where their file has them."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from reglab.core.errors import UserError
from reglab.data.new_columns import labels_of, numbers_of
from reglab.data.new_rows import codes_of
from reglab.data.preprocessing import Preprocessing
from reglab.data.source import Booleans
from reglab.data.table_options import Reading
from reglab.data.table_raw import RawTable
from reglab.tasks import Task, task_named


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
    columns = preprocessing.targets
    if not columns or any(column.name not in table.columns for column in columns):
        return None
    task = task_named(preprocessing.task)
    if task.classes:
        (column,) = columns
        labels = labels_of(column, table, reading)
        codes = np.array(codes_of(labels, preprocessing.target_names, column), dtype=np.int64)
        return _known(task, codes, codes >= 0)
    values = np.stack([numbers_of(column, table, reading) for column in columns], axis=1)
    if preprocessing.target_scale:
        values = (values - np.array(preprocessing.target_center)) / np.array(preprocessing.target_scale)
    known: Booleans = np.asarray(~np.isnan(values).any(axis=1))
    if wrong := task.check_targets(torch.from_numpy(values[known])):
        raise UserError(f"the target does not suit the task {task.name} of the run: {wrong}")
    one = values.shape[1] == 1 and task.reads == "numbers"
    return _known(task, values[:, 0] if one else values, known)


def _known(task: Task, values: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]", known: Booleans) -> NewTargets:
    made = torch.from_numpy(values[known])
    return NewTargets(made if task.integers else made.double(), known)
