"""Target columns of a table: infer the task, read the values."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from reglab.core.errors import UserError
from reglab.data.checks import choice
from reglab.data.source import Floats, Integers
from reglab.tasks import Task, task_named, task_names
from reglab.tasks.find import target_of
from reglab.tasks.multi import Multi

if TYPE_CHECKING:
    import pandas as pd

TASKS = ("auto", *task_names())
MOST_CLASSES = 20  # more different whole numbers than this are a quantity, not classes
ROWS_PER_CLASS = 5


TaskOrTasks = str | Mapping[str, str]
"""``auto``, the name of a task, or one for each target column, such as
``{"price": "regression", "sold": "2*binary"}``, whose losses are added with these weights."""


def check_task(task: TaskOrTasks) -> TaskOrTasks:
    """Return ``task``, ``auto`` or the name of a task, or one by column.

    Raises:
        UserError: That names the nearest.
    """
    if isinstance(task, Mapping):
        for column, each in task.items():
            if "auto" in str(each):
                raise UserError(f"data.task: name the task of {column}, such as regression")
            target_of(f"{column}={each}", "data.task")
        return {str(column): str(each) for column, each in task.items()}
    if task == "auto":
        return task
    task = str(task)
    if "." in task or "(" in task or task in TASKS:
        return task_named(task).name
    return choice("task", task, TASKS)


def is_dense(task: TaskOrTasks) -> bool:
    """Return whether a task has a target at each position of an example; ``auto`` has not."""
    return isinstance(task, str) and task != "auto" and task_named(task).reads == "dense"


class Target(NamedTuple):
    """The fields of ``Source`` of the same names."""

    task: str
    targets: Integers | Floats
    target_names: tuple[str, ...]
    class_names: tuple[tuple[str, ...], ...] = ()


def read_target(columns: "pd.DataFrame", task: TaskOrTasks) -> Target:
    """Return the target in ``columns`` (one, or several) as the task ``task`` wants it.

    ``auto`` decides by the values.

    auto: several columns are multilabel if they hold only 0 and 1, else regression. One column is
    classification if it holds text, categories, truth values, or at most 20 different whole numbers
    with five rows each on average; binary if there are two classes; regression otherwise. Classes
    are in sorted order, and the second of two is 1.

    Args:
        columns: One column, or several.
        task: One of ``TASKS``, or one by column.

    Returns:
        Task, targets [rows] or [rows, columns], and names.

    Raises:
        UserError: If a value is missing, a column is constant, or the values do not suit the task.
    """
    if isinstance(task, Mapping):
        return _several(columns, task)
    given = None if task == "auto" else task_named(task)
    if given is not None and given.reads == "times":
        return _times(columns, given)
    for name in columns:
        _check_complete(columns[name])
    chosen = task_named(_guess(columns)) if given is None else given
    if chosen.reads == "classes":
        return _classes(columns, chosen)
    if chosen.reads == "queries" and columns.shape[1] > 1:
        raise UserError(f"{chosen.name} takes one target column, the relevance, got {list(columns)}: name one")
    if chosen.reads == "dense":
        raise UserError(
            f"data.task={chosen.name} has a target at each position, which no table holds: use reglab.dataset"
        )
    numbers = _numbers(columns, chosen)
    if chosen.reads == "levels":
        return _levels(columns, numbers, chosen)
    if chosen.reads == "labels" and not np.isin(numbers, (0, 1)).all():
        raise UserError(f"multilabel targets must be 0 or 1, one column a label; {list(columns)} hold other numbers")
    values = numbers[:, 0] if chosen.reads in ("numbers", "queries") and numbers.shape[1] == 1 else numbers
    if wrong := chosen.check_targets(torch.tensor(values)):
        raise UserError(f"the target does not suit data.task={chosen.name}: {wrong}")
    return Target(chosen.name, values, tuple(map(str, columns)))


def _several(columns: "pd.DataFrame", tasks: Mapping[str, str]) -> Target:
    """Return several targets, each of a task of its own."""
    parts, values, names = [], [], []
    for column, text in tasks.items():
        wanted = target_of(f"{column}={text}", "data.task")
        found = read_target(columns[[column]], wanted.task.name)
        classes = len(found.target_names) if wanted.task.classes else 1
        parts.append(replace(wanted, classes=classes))
        values.append(found.targets.astype(np.float64))
        names.append(found.target_names if wanted.task.classes else ())
    return Target(Multi(parts).name, np.stack(values, 1), tuple(tasks), tuple(names))


def _times(columns: "pd.DataFrame", task: Task) -> Target:
    """Return times, and which events were seen."""
    names = list(columns)
    if len(names) != 2:
        raise UserError(
            f"{task.name} takes a time, and 1 or 0 for whether the event was seen then, got {names}: of a table "
            "data.target=TIME data.event=SEEN, of arrays targets [rows, 2]; where all were seen, 1 in every row"
        )
    _check_complete(columns[names[0]])
    _check_present(columns[names[-1]])
    values = _numbers(columns, task)
    if wrong := task.check_targets(torch.tensor(values)):
        raise UserError(f"the target {names} does not suit data.task={task.name}: {wrong}")
    if not values[:, 1].any():
        raise UserError(f"no event was seen: {names[-1]!r} is 0 in every row. Is 1 an event that was seen there?")
    return Target(task.name, values, tuple(map(str, names)))


def targets_of(values: NDArray[Any], task: TaskOrTasks) -> Target:
    """Return the target in an array as the task ``task`` wants it, see ``read_target``.

    Args:
        values: ``[rows]`` or ``[rows, columns]``; of a task with a target at each position
            ``[rows, ...]``.
        task: One of ``TASKS``, or one by column, in their order.

    Raises:
        UserError: For another task, and for values that do not suit it.
    """
    import pandas as pd

    task = check_task(task)
    if isinstance(task, str) and is_dense(task):
        return _dense(values, task_named(task))
    columns = pd.DataFrame(values.reshape(len(values), -1))
    columns.columns = [f"target_{i}" for i in range(columns.shape[1])] if columns.shape[1] > 1 else ["target"]
    if isinstance(task, Mapping):
        if len(task) != columns.shape[1]:
            raise UserError(f"the targets have {columns.shape[1]} columns, and task= names {len(task)}: {list(task)}")
        columns.columns = list(task)
    return read_target(columns, task)


def _dense(targets: NDArray[Any], task: Task) -> Target:
    """Return targets at each position of an example."""
    if targets.ndim < 2 or targets.dtype.kind not in "iu":
        raise UserError(f"{task.name} takes whole numbers [rows, ...] as targets, got {targets.dtype} {targets.shape}")
    values = targets.astype(np.int64)
    if wrong := task.check_targets(torch.from_numpy(values)):
        raise UserError(f"the targets do not suit task={task.name}: {wrong}")
    return Target(task.name, values, tuple(str(number) for number in range(int(values.max()) + 1)))


def _check_present(column: "pd.Series") -> None:
    missing = np.flatnonzero(column.isna())
    if missing.size:
        raise UserError(
            f"the target {column.name!r} is missing (NaN) in {missing.size} of {len(column)} rows, first in row "
            f"{missing[0] + 1} below the header: fill these values in or delete the rows"
        )


def _check_complete(column: "pd.Series") -> None:
    _check_present(column)
    if column.nunique() == 1:
        raise UserError(
            f"the target {column.name!r} is constant: every row has {column.iloc[0]!s}. Choose another target"
        )


def _guess(columns: "pd.DataFrame") -> str:
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    if columns.shape[1] > 1:
        return "multilabel" if columns.isin((0, 1)).all(axis=None) else "regression"
    column = columns.iloc[:, 0]
    distinct = column.nunique()
    if is_numeric_dtype(column) and not is_bool_dtype(column):
        numbers = column.to_numpy(dtype=np.float64)
        whole = bool(np.all(numbers == np.round(numbers)))
        if not whole or distinct > min(MOST_CLASSES, max(2, len(column) // ROWS_PER_CLASS)):
            return "regression"
    return "binary" if distinct == 2 else "classification"


def _classes(columns: "pd.DataFrame", task: Task) -> Target:
    if columns.shape[1] > 1:
        raise UserError(
            f"{task.name} takes one target column, got {list(columns)}: name one, or set data.task=multilabel"
        )
    column = columns.iloc[:, 0]
    try:
        labels, codes = np.unique(column.to_numpy(), return_inverse=True)
    except TypeError:  # text and numbers mixed do not sort
        labels, codes = np.unique(column.astype(str).to_numpy(dtype=str), return_inverse=True)
    if not task.integers and len(labels) != 2:
        raise UserError(
            f"data.task=binary needs two classes, but {column.name!r} has {len(labels)}: set data.task=classification"
        )
    return Target(task.name, codes.astype(np.int64), tuple(str(label) for label in labels))


def _levels(columns: "pd.DataFrame", numbers: Floats, task: Task) -> Target:
    """Return classes in the order of their numbers."""
    if columns.shape[1] > 1:
        raise UserError(f"{task.name} takes one target column, got {list(columns)}: name one")
    levels, codes = np.unique(numbers[:, 0], return_inverse=True)
    return Target(task.name, codes.astype(np.int64), tuple(f"{level:g}" for level in levels))


def _numbers(columns: "pd.DataFrame", task: Task) -> Floats:
    from pandas.api.types import is_numeric_dtype

    for name in columns:
        column = columns[name]
        if not is_numeric_dtype(column):
            raise UserError(
                f"the target {name!r} holds {column.dtype} values (such as {column.iloc[0]!r}), but {task.name} needs "
                "numbers: clean the column, or set data.task=classification"
            )
        infinite = np.flatnonzero(np.isinf(column.to_numpy(dtype=np.float64)))
        if infinite.size:
            raise UserError(
                f"the target {name!r} is infinite in {infinite.size} rows, first in row {infinite[0] + 1} below the "
                "header: correct these values or delete the rows"
            )
    return columns.to_numpy(dtype=np.float64)
