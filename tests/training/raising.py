"""A user's model and regularizer that raise what callers take for something else."""

import os
import sys
from typing import Any

from torch import Tensor, nn

from reglab.core.errors import UserError
from reglab.regularizers import Regularizer


def act(what: str) -> None:
    """Raise, or leave, in one of many ways."""
    if what == "exit":
        sys.exit(0)
    if what == "_exit":
        os._exit(0)
    if what == "KeyError":
        raise KeyError("lr")
    if what == "generator":
        list(next(each) for each in [iter(())])  # noqa: C400 - Python makes a RuntimeError of it
    raise ERRORS[what]


class Unreadable(Exception):  # noqa: N818 - a name of a user's
    """Its message cannot be read."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


ERRORS: dict[str, BaseException] = {
    "StopIteration": StopIteration("used up"),
    "GeneratorExit": GeneratorExit("closed"),
    "KeyboardInterrupt": KeyboardInterrupt("mine"),
    "BrokenPipeError": BrokenPipeError(32, "a pipe of the model"),
    "ConnectionError": ConnectionError("a service of the model"),
    "TimeoutError": TimeoutError("a service of the model"),
    "EOFError": EOFError("a file of the model"),
    "FileNotFoundError": FileNotFoundError(2, "No such file", "vocabulary.txt"),
    "MemoryError": MemoryError("too much"),
    "AssertionError": AssertionError("a shape"),
    "surrogate": ValueError("name \udcff\0"),
    "long": ValueError("x" * 1_000_000),
    "unreadable": Unreadable(),
    "UserError": UserError("of the model"),
}


class Net(nn.Linear):
    """Raises in its third forward pass of training."""

    def __init__(self, inputs: int, outputs: int, what: str, at: int = 3) -> None:
        super().__init__(inputs, outputs)
        self.what, self.at, self.passes = what, at, 0

    def forward(self, inputs: Tensor) -> Tensor:
        self.passes += self.training
        if self.passes >= self.at > 0 and self.training:
            act(self.what)
        return super().forward(inputs)


class InStep(Regularizer):
    """Raises StopIteration in its proximal step."""

    def on_step(self, model: nn.Module, step_size: Any) -> None:
        """As a proximal step."""
        act("StopIteration")


class InMeasurement(Regularizer):
    """Raises StopIteration where early stopping decides."""

    def on_validation(self, metrics: Any) -> Any:
        """As early stopping."""
        act("StopIteration")
