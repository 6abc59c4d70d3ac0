"""Find a task by its name: each module of this package that defines one is a task."""

import importlib
import inspect
import pkgutil
import re
from functools import cache
from pathlib import Path

from reglab.config.instantiate import construct, locate
from reglab.core.errors import UserError, nearest
from reglab.tasks.base import Task
from reglab.tasks.multi import Multi, Target


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
    if name.startswith("multi("):
        return _multi(name, key)
    if "(" not in name and "." in name:
        return _of_path(name)
    return _tasks().get(name) or _with_numbers(name, key)


@cache
def _multi(text: str, key: str) -> Multi:
    """Return the task of a text such as ``multi(price=regression,sold=2*binary,kind=classification:3)``."""
    if not text.endswith(")"):
        raise UserError(f"{key}={text} does not end: it is written multi(COLUMN=TASK,...)")
    targets = [target_of(part, key) for part in re.findall(r"[^,(]+(?:\([^)]*\))?[^,(]*", text[6:-1])]
    if not targets:
        raise UserError(f"{key}={text} needs a target: it is written multi(COLUMN=TASK,...)")
    if len({target.name for target in targets}) < len(targets):
        raise UserError(f"{key}={text} names a target twice")
    return Multi(targets)


def target_of(text: str, key: str = "task") -> Target:
    """Return one of several targets from ``COLUMN=TASK``, ``COLUMN=WEIGHT*TASK`` and, of classes,
    ``COLUMN=TASK:CLASSES``.

    Raises:
        UserError: For anything else.

    Example:
        >>> target_of("kind=0.5*classification:3").width
        3
    """
    number = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
    match = re.fullmatch(rf"\s*(\w[\w .-]*?)\s*=\s*(?:({number})\s*\*\s*)?([^:*]+?)(?:\s*:\s*(\d+))?\s*", text)
    if match is None:
        raise UserError(
            f"{key}: {text!r} is no target and its task: write COLUMN=TASK or COLUMN=2*TASK, the column's name in "
            "letters, digits, spaces and . _ -"
        )
    column, weight, name, classes = match.groups()
    task = task_named(name, key)
    if task.reads not in ("classes", "levels", "numbers") or not task.per_example:
        raise UserError(f"{key}: {column} cannot be of the task {task.name} beside other targets; it may be alone")
    if weight is not None and not float(weight) > 0:
        raise UserError(f"{key}: the weight of {column} must be above 0, got {weight}")
    return Target(column, task, float(weight or 1), int(classes or 1))


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
