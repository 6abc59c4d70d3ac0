"""A user's own table, from a file."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from reglab.core.errors import UserError
from reglab.data.checks import flag, whole
from reglab.data.queries import task_of_queries
from reglab.data.source import Floats, Source
from reglab.data.table_column import Column
from reglab.data.table_features import read_features
from reglab.data.table_keys import check_complete, group_numbers, time_numbers
from reglab.data.table_options import Reading
from reglab.data.table_raw import RawTable
from reglab.data.table_roles import pd_frame, read_typed
from reglab.data.table_target import TaskOrTasks, check_task, read_target
from reglab.tasks import task_named


def table(
    *,
    path: str | None = None,
    target: str | Sequence[str] | None = None,
    event: str | None = None,
    query: str | None = None,
    task: TaskOrTasks = "auto",
    drop: str | Sequence[str] | None = None,
    categorical: str | Sequence[str] | None = None,
    most_categories: int = 100,
    standardize_target: bool = True,
    group: str | None = None,
    time: str | None = None,
    sample_weight: str | None = None,
    separator: str | None = None,
    decimal: str | None = None,
    missing: str | Sequence[object] | None = None,
    encoding: str | None = None,
    header: bool | None = None,
    sheet: str | None = None,
    types: Mapping[str, str] | None = None,
) -> Source:
    """Return the rows of the file ``path``.

    Every column is an input that is not named here for something else.

    Args:
        target: One column, or several (multilabel, or regression with several outputs)
        event: The column that is 1 where the event was seen at the time ``target``, and 0 where the
            row was lost from sight; the task is then ``survival``.
        query: The column that numbers or names the query of each row, whose relevance the target is;
            the task is then ``ranking``.
        task: See ``read_target``.
        drop: Columns to leave out.
        categorical: Numeric columns to treat as categories.
        group, time, sample_weight: Columns that steer the split and the weights; they are not
            inputs.
        separator, decimal, missing, encoding, header, sheet, types: See ``Reading``.

    Raises:
        UserError: For a file, column or value that cannot be used.
    """
    task = check_task(task)
    if isinstance(task, Mapping):
        target = _of_tasks(target, task)
    if event is not None:
        target, task = _of_event(target, str(event), task)
    task = task_of_queries("data.query", query, task)
    reading = Reading(separator, decimal, missing, encoding, header, None if sheet is None else str(sheet), types)
    steering = {"group": group, "time": time, "query": query, "sample_weight": sample_weight}
    typed = read_typed(path, reading, task, target, drop, categorical, steering, event)
    numeric, names, categories = read_features(
        pd_frame(typed.inputs), list(typed.categorical), whole("most_categories", most_categories, 1)
    )
    return Source(
        **read_target(pd_frame(typed.targets), task)._asdict(),
        numeric=numeric,
        numeric_names=names,
        categorical=categories,
        standardize_target=flag("standardize_target", standardize_target),
        group=None if group is None else group_numbers(typed.file, str(group), reading),
        time=None if time is None else time_numbers(typed.file, str(time), reading),
        query=None if query is None else group_numbers(typed.file, str(query), reading, "query"),
        sample_weight=None if typed.weight is None else _weights(typed.weight, typed.file),
        name=Path(str(path)).stem,
        table=typed,
    )


def _of_tasks(target: str | Sequence[str] | None, tasks: Mapping[str, str]) -> list[str]:
    """Return the target columns of several tasks."""
    named = [target] if isinstance(target, str) else list(target or tasks)
    if set(named) != set(tasks):
        raise UserError(
            f"data.task names {', '.join(tasks)}, and data.target {', '.join(named)}: name the same columns"
        )
    return list(tasks)


def _of_event(target: str | Sequence[str] | None, event: str, task: TaskOrTasks) -> tuple[list[str], str]:
    """Return the target columns and the task of times whose ``event`` was seen or not."""
    if not isinstance(target, str):
        raise UserError(f"data.event={event} says which times were seen: name their column, data.target=COLUMN")
    if isinstance(task, Mapping) or (task != "auto" and task_named(task).reads != "times"):
        raise UserError(f"data.event={event} is of the task survival, got data.task={task}: leave one of them out")
    return [target, event], "survival" if task == "auto" else task


def _weights(column: Column, file: RawTable) -> Floats:
    from pandas.api.types import is_numeric_dtype

    check_complete(column.values, "sample_weight", column.name, file)
    numeric = is_numeric_dtype(column.values)
    weights = column.values.to_numpy(dtype=np.float64) if numeric else np.array([np.nan])
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise UserError(
            f"data.sample_weight={column.name} must hold finite numbers >= 0: correct them or choose another"
        )
    return weights
