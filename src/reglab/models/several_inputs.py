"""Networks with several inputs, which data hold as one row of values."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from reglab.core.errors import UserError

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class SplitInputs:
    """A forward pre-hook that gives a network its inputs one by one.

    Args:
        shapes: Of one example of each input.
    """

    def __init__(self, shapes: Sequence[Sequence[int]]) -> None:
        self.shapes = [tuple(shape) for shape in shapes]
        self.sizes = [int(torch.Size(shape).numel()) for shape in self.shapes]

    def __call__(self, module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the inputs, ``[rows, *shape]`` each; arguments that are several already stay as they are.

        Args:
            module: The network.
            arguments: The values of all inputs, ``[rows, values]``.
        """
        if len(arguments) != 1 or not isinstance(arguments[0], Tensor):
            return arguments
        parts = torch.split(arguments[0], self.sizes, dim=1)
        return tuple(part.reshape(-1, *shape) for part, shape in zip(parts, self.shapes, strict=True))


def split_inputs(model: nn.Module, shapes: Sequence[Sequence[int]], names: Sequence[str]) -> None:
    """Let a network whose ``forward`` takes as many inputs get them in their order; one that takes one gets
    all values, ``[rows, values]``.

    Args:
        model: The network, to which the hook is added once.
        shapes: Of one example of each input.
        names: Of the inputs, for messages.

    Raises:
        UserError: For a network that takes another number of inputs.
    """
    if any(isinstance(hook, SplitInputs) for hook in model._forward_pre_hooks.values()):
        return
    parameters = inspect.signature(model.forward).parameters.values()
    taken = [each for each in parameters if each.kind in _POSITIONAL]
    needed = [each for each in taken if each.default is each.empty]
    several = any(each.kind is each.VAR_POSITIONAL for each in parameters)
    if len(needed) <= len(names) and (len(names) <= len(taken) or several):
        model.register_forward_pre_hook(SplitInputs(shapes))
    elif len(needed) != 1:
        takes = ", ".join(each.name for each in needed)
        raise UserError(
            f"model: forward of {type(model).__name__} takes {len(needed)} inputs ({takes}), and data.inputs gives "
            f"{len(names)} ({', '.join(names)}): give as many, in the same order, or write a forward that takes one, "
            "[rows, values]"
        )
