"""A user's package for sigterms.py.

Writes down each optimizer step, "process step" a line, the moment it is taken.

It lies in the working folder of the run, whose configuration trusts it; ``steps.txt`` is written
there.
"""

import functools
import os
from collections.abc import Callable
from typing import Any, ClassVar

from reglab.regularizers import Regularizer
from reglab.training.fused.pack import Pack
from reglab.training.solo import Solo

_FILE = os.open("steps.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def _witnessed(function: Callable[..., Any], done: Callable[[Any], int]) -> Callable[..., Any]:
    @functools.wraps(function)
    def step(self: Any, *arguments: Any) -> Any:
        outcome = function(self, *arguments)
        os.write(_FILE, f"{os.getpid()} {done(self)}\n".encode())
        return outcome

    return step


# A hook of the cocktail would not do: in a pack it is traced once, and the graph runs without it.
Solo.step = _witnessed(Solo.step, lambda solo: int(solo.cocktail.keys.step))
Pack.step = _witnessed(Pack.step, lambda pack: pack.done())


class Witness(Regularizer):
    """Regularizes nothing; a configuration that names it lets this module be imported."""

    neutral: ClassVar[dict[str, float]] = {}
