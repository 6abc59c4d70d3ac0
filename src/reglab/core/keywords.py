"""Name the nearest keyword argument where one is misspelt."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from reglab.core.errors import nearest

P = ParamSpec("P")
R = TypeVar("R")


def nearest_keyword(function: Callable[P, R]) -> Callable[P, R]:
    """Let the TypeError of an unknown keyword argument name the nearest one.

    Example:
        >>> nearest_keyword(lambda lr=0.1: lr)(ler=1)
        Traceback (most recent call last):
        TypeError: <lambda>() got an unexpected keyword argument 'ler': did you mean 'lr'?
    """
    known = [name for name in inspect.signature(function).parameters if name != "self"]
    called = function.__qualname__.removesuffix(".__init__").rpartition(".")[2]

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if unknown := next((name for name in kwargs if name not in known), None):
            raise TypeError(f"{called}() got an unexpected keyword argument {unknown!r}: {nearest(unknown, known)}")
        return function(*args, **kwargs)

    return call
