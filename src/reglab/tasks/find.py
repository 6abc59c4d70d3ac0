"""Find a task by its name: each module of this package that defines one is a task."""

import importlib
import inspect
import pkgutil
from functools import cache
from pathlib import Path

from reglab.config.instantiate import construct, locate
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


def task_named(task: Task | str, key: str = "task") -> Task:
    """Return the task of a name, and a task as it is.

    Args:
        task: A name, with numbers behind it where the task has some, or the dotted path of a class
            in a package that the user trusts.
        key: What the user calls it, for messages.

    Raises:
        UserError: For an unknown name.

    Example:
        >>> task_named("binary").score
        'accuracy'
    """
    if isinstance(task, Task):
        return task
    name = str(task)
    if "(" not in name and "." in name:
        return _of_path(name)
    return _tasks().get(name) or _with_numbers(name, key)


def _of_path(path: str) -> Task:
    """Return the user's task of a dotted path, by which it is called."""
    task = construct(locate(path, Task, "data.task"), {}, "data.task")  # type: ignore[type-abstract]  # subclasses
    task.name = path
    return task


@cache
def _with_numbers(text: str, key: str) -> Task:
    """Return the task of a name with numbers behind it, ``quantile(0.05,0.95)``."""
    name, _, numbers = text.partition("(")
    found = _tasks().get(name)
    if found is None or not numbers.endswith(")"):
        raise UserError(f"{key}={text} is unknown; {nearest(text, task_names())}")
    try:
        return type(found)(*(float(number) for number in numbers[:-1].split(",")))
    except (ValueError, TypeError) as error:
        raise UserError(f"{key}={text}: {name} takes no such numbers ({error})") from error
