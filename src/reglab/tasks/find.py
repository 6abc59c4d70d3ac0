"""Find a task by its name: each module of this package that defines one is a task."""

import importlib
import inspect
import pkgutil
from functools import cache
from pathlib import Path

from reglab.core.errors import UserError, nearest
from reglab.tasks.base import Task


@cache
def _tasks() -> dict[str, Task]:
    found = {}
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name != "find":
            for value in vars(importlib.import_module(f"reglab.tasks.{module.name}")).values():
                if inspect.isclass(value) and issubclass(value, Task) and getattr(value, "name", "") == module.name:
                    found[module.name] = value()
    return found


def task_names() -> tuple[str, ...]:
    """Return the names of all tasks."""
    return tuple(_tasks())


def task_named(task: Task | str) -> Task:
    """Return the task of a name, and a task as it is.

    Raises:
        UserError: For an unknown name.

    Example:
        >>> task_named("binary").score
        'accuracy'
    """
    if isinstance(task, Task):
        return task
    found = _tasks().get(task)
    if found is None:
        raise UserError(f"task={task} is unknown; {nearest(str(task), task_names())}")
    return found
