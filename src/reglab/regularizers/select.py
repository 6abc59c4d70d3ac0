"""Which parameters a method acts on."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from torch import Tensor, nn

from reglab.errors import nearest


def chosen(tensors: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]], where: str) -> list[tuple[str, Tensor]]:
    """Return the named tensors that ``where`` selects.

    where: ``weights`` (two or more axes: no biases, no normalization parameters), ``all``, or patterns over the names
    separated by spaces, with ``*`` as a wildcard: ``layers.0.* head.weight``.
    """
    pairs = tensors.items() if isinstance(tensors, Mapping) else tensors
    return [(name, tensor) for name, tensor in pairs if _matches(name, tensor, where)]


def selected(model: nn.Module, where: str) -> list[tuple[str, Tensor]]:
    """Return the parameters of ``model`` that ``where`` selects. Frozen ones are left alone.

    model: anything with ``named_parameters()``; a plain tensor among them counts as trained.
    """
    return chosen(((name, weight) for name, weight in model.named_parameters() if not _frozen(weight)), where)


def check_selection(model: nn.Module, where: str) -> None:
    """Raise ValueError, naming the nearest parameter, if a part of ``where`` selects nothing of ``model``."""
    for part in where.split() or [where]:
        if not selected(model, part):
            names = [name for name, _ in model.named_parameters()]
            raise ValueError(f"where={part!r} selects none of the model's parameters; {nearest(part, names)}")


def _frozen(weight: Tensor) -> bool:
    # Inside torch.func.functional_call the parameters are plain tensors, and those that are given are the trained ones.
    return isinstance(weight, nn.Parameter) and not weight.requires_grad


def _matches(name: str, tensor: Tensor, where: str) -> bool:
    if where == "weights":
        return tensor.ndim >= 2
    return where == "all" or any(fnmatchcase(name, pattern) for pattern in where.split())
