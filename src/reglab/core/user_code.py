"""Run code of models, data sets and regularizers: what it raises is neither swallowed nor misread."""

import copy
import functools
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from reglab.core.errors import CodeFailed
from reglab.core.signals import was_signalled


@contextmanager
def user_code() -> Iterator[None]:
    """Raise CodeFailed for what would end the process, or a caller's loop, from inside the context.

    That is ``SystemExit``, ``StopIteration``, ``GeneratorExit``, a ``KeyboardInterrupt`` that no
    signal raised, and ``os._exit`` called by the main thread. Processes that the code forks end as
    they like. The working folder is what it was afterwards: the next job's paths start from it.

    Raises:
        CodeFailed: With what was raised as its cause.
    """
    leave, process, folder = os._exit, os.getpid(), _working_folder()

    def refuse(status: int) -> NoReturn:
        if os.getpid() == process and threading.current_thread() is threading.main_thread():
            raise CodeFailed(f"the code of the run called os._exit({status!r})")
        leave(status)

    os._exit = refuse
    try:
        yield
    except BaseException as error:
        if (isinstance(error, Exception) and not isinstance(error, StopIteration)) or was_signalled(error):
            raise
        raise CodeFailed(error) from error
    finally:
        os._exit = leave
        if folder is not None:
            with suppress(OSError):  # it was removed meanwhile
                os.chdir(folder)


def _working_folder() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109 - as text, for os.chdir
    except OSError:  # it was removed
        return None


@contextmanager
def without_stop_iteration(targets: Iterable[object], names: Iterable[str]) -> Iterator[None]:
    """Let methods raise CodeFailed for StopIteration inside the context.

    For a caller that takes it for the end of its own loop.

    Args:
        targets: The objects.
        names: Of the methods; one that an object lacks is passed over.
    """
    hooks = [(target, name) for target in targets for name in names if _is_unguarded(getattr(target, name, None))]
    before = [vars(target).get(name) for target, name in hooks]  # such as a callback that is made of functions has
    for target, name in hooks:
        setattr(target, name, _Guarded(target, name))
    try:
        yield
    finally:
        for (target, name), hook in zip(hooks, before, strict=True):
            delattr(target, name) if hook is None else setattr(target, name, hook)


def _is_unguarded(hook: object) -> bool:
    return callable(hook) and not isinstance(hook, _Guarded)


class _Guarded:
    """A method that raises CodeFailed for StopIteration.

    A copy of the object that it belongs to, or what is pickled of it, has the method itself.

    Args:
        target: The object.
        name: Of its method.
    """

    def __init__(self, target: object, name: str) -> None:
        functools.update_wrapper(self, getattr(target, name))
        self._target, self._name, self._hook = target, name, getattr(target, name)
        self._own = name in vars(target)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return self._hook(*args, **kwargs)
        except StopIteration as error:
            raise CodeFailed(error) from error

    def __reduce__(self) -> Any:
        return (copy.copy, (self._hook,)) if self._own else (getattr, (self._target, self._name))
