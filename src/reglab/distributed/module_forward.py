"""Replace the ``forward`` of modules in place, and undo it."""

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

Forward = Callable[..., Any]


def replace_forwards(modules: Iterable[nn.Module], made: Callable[[nn.Module], Forward]) -> Callable[[], None]:
    """Give each of the modules the forward that ``made(module)`` returns, on the instance; return
    the undo.

    Classes, names, hooks and the state dict stay as they are. A deep copy of the model keeps the
    new forward, so what ``made`` returns must be an object that copies along with its module. Later
    replacements are to be undone first.

    Args:
        modules: Changed in place.
        made: From a module to its new forward.

    Returns:
        Undoes the replacement.
    """
    once = list({id(module): module for module in modules}.values())
    before = [(module, module.__dict__.get("forward")) for module in once]
    for module in once:
        module.__dict__["forward"] = made(module)

    def undo() -> None:
        for module, previous in before:
            module.__dict__.pop("forward", None)
            if previous is not None:
                module.__dict__["forward"] = previous

    return undo
