"""Checks of an optimizer's class and arguments; one that nothing is known of is tried on small weights."""

import inspect
import io
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import LBFGS, Optimizer

from reglab.config.instantiate import construct
from reglab.core.errors import UserError, nearest
from reglab.optimizers import rule_for

_SHAPES = ((6, 4), (6,))


def check_arguments(cls: type[Optimizer], arguments: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Raise UserError for arguments that the class would ignore, or fail at without a reason.

    Args:
        cls: Of the optimizer.
        arguments: From the config.
        weights: That it is to train.
    """
    parameters = inspect.signature(cls).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        known = _named(cls)
        for name in arguments:
            if name not in known:
                raise UserError(f"optimizer.{name}: {cls.__name__} does not read it; {nearest(name, sorted(known))}")
    for name, value in arguments.items():
        default: Any = parameters[name].default if name in parameters else ()
        if value is None or not default or not isinstance(default, tuple) or not all(map(_is_number, default)):
            continue
        if not isinstance(value, Sequence) or len(value) != len(default) or not all(map(_is_number, value)):
            raise UserError(
                f"optimizer.{name} must be {len(default)} numbers, such as {[*default]}, got {value}: write "
                f"optimizer.{name}=[{','.join(f'{each:g}' for each in default)}]"
            )
    other = [name for name, weight in weights.items() if weight.dim() != 2]
    if cls is torch.optim.Muon and other:
        raise UserError(
            f"optimizer: torch.optim.Muon takes matrices alone, and {other[0]} is none: use optimizer=muon, by which "
            "AdamW trains the other weights"
        )


def _named(cls: type[Optimizer]) -> set[str]:
    """Return the names of arguments in the source of a class's constructors: in ``**kwargs`` too."""
    names: set[str] = set()
    for each in cls.__mro__:
        code = getattr(vars(each).get("__init__"), "__code__", None)
        if code is not None:
            texts = [constant for constant in code.co_consts if isinstance(constant, str) and constant.isidentifier()]
            names |= {*code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount], *texts}
    return names - {"params", "self"}


def check_steps(optimizer: Optimizer, arguments: Mapping[str, Any]) -> None:
    """Raise UserError for an optimizer of another package that cannot be trained by.

    It is tried on two small weights: whether it steps by their gradients, whether what it keeps can
    be read from a checkpoint, and whether it then continues with the same bits.

    Args:
        optimizer: Of the model; it is not changed.
        arguments: From the config.
    """
    cls, name = type(optimizer), type(optimizer).__name__
    closure = inspect.signature(cls.step).parameters.get("closure")
    if isinstance(optimizer, LBFGS) or (closure is not None and closure.default is closure.empty):
        raise UserError(f"optimizer: {name} takes many gradients a step, which regularizers do not fit; try Adam")
    if any("lr" not in group for group in optimizer.param_groups):
        raise UserError(f"optimizer: {name} has no learning rate, which is recorded and scheduled here; try Adam")
    if rule_for(cls) is not None or cls.__module__.startswith("torch.optim"):
        return
    with torch.random.fork_rng(devices=[]):
        first, second = (_Trial(cls, arguments) for _ in range(2))
        try:
            first.step(3)
            kept = first.state()
        except Exception as error:
            raise UserError(
                f"optimizer: {name} fails in a step by gradients alone ({_line(error)}): take another one"
            ) from error
        try:
            content = torch.load(kept, weights_only=True)
        except Exception as error:
            raise UserError(
                f"optimizer: {name} keeps more than tensors and numbers, which no checkpoint can be trusted to hold, "
                "so that its runs could not be resumed: take another one"
            ) from error
        second.resume(content)
        for trial in (first, second):
            trial.step(2)
        if not all(torch.equal(one, other) for one, other in zip(first.weights, second.weights, strict=True)):
            raise UserError(
                f"optimizer: {name} does not go on from its own state_dict as it would have without, so that its runs "
                "could not be resumed: take another one"
            )


class _Trial:
    """An optimizer of two small weights.

    Args:
        cls: Of the optimizer.
        node: Its arguments from the config.
    """

    def __init__(self, cls: type[Optimizer], node: Mapping[str, Any]) -> None:
        arguments = {name: value for name, value in node.items() if name != "_target_"}
        self.done = 0
        self._draws = torch.Generator().manual_seed(0)
        self.weights = [nn.Parameter(torch.randn(shape, generator=self._draws)) for shape in _SHAPES]
        self._optimizer = construct(cls, {**arguments, "params": self.weights}, "optimizer")
        if hasattr(self._optimizer, "train"):
            self._optimizer.train()

    def step(self, times: int) -> None:
        for _ in range(times):
            torch.manual_seed(self.done)
            for weight in self.weights:
                weight.grad = torch.randn(weight.shape)
            self._optimizer.step()
            self.done += 1

    def state(self) -> io.BytesIO:
        file = io.BytesIO()
        weights = [weight.detach() for weight in self.weights]
        torch.save({"optimizer": self._optimizer.state_dict(), "weights": weights, "done": self.done}, file)
        file.seek(0)
        return file

    def resume(self, content: Mapping[str, Any]) -> None:
        with torch.no_grad():
            for weight, value in zip(self.weights, content["weights"], strict=True):
                weight.copy_(value)
        self._optimizer.load_state_dict(content["optimizer"])
        self.done = content["done"]


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0].rstrip(".")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
