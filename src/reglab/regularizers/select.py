"""Select parameters by kind or name pattern."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from torch import Tensor, nn

from reglab.core.errors import nearest
from reglab.regularizers.parameter_kinds import Kind, guessed, kinds_of


class Named(dict[str, Tensor]):
    """Parameters by name, with the ``kinds`` of a model's: what a penalty is handed."""

    def __init__(self, tensors: Mapping[str, Tensor], kinds: Mapping[str, Kind]) -> None:
        super().__init__(tensors)
        self.kinds = kinds


def chosen(tensors: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]], where: str) -> list[tuple[str, Tensor]]:
    """Return the named tensors that ``where`` selects.

    Args:
        where: Names separated by spaces: ``weights`` (by kind: no biases, no normalization
            parameters; see ``parameter_kinds.parameter_kinds``), ``all``, or patterns over the
            parameters' names with ``*`` as a wildcard: ``layers.0.* head.weight``.
    """
    pairs = tensors.items() if isinstance(tensors, Mapping) else tensors
    return _matching(pairs, where, getattr(tensors, "kinds", {}))


def selected(model: nn.Module, where: str) -> list[tuple[str, Tensor]]:
    """Return the parameters of ``model`` that ``where`` selects. Frozen ones are left alone.

    Args:
        model: Anything with ``named_parameters()``; a plain tensor among them counts as trained.
    """
    trained = ((name, weight) for name, weight in model.named_parameters() if not _frozen(weight))
    return _matching(trained, where, kinds_of(model))


def frozen_weights(model: nn.Module) -> int:
    """Return how many values of weights (by kind, see ``chosen``) do not train.

    Args:
        model: Anything with ``named_parameters()``.
    """
    frozen = ((name, weight) for name, weight in model.named_parameters() if _frozen(weight))
    return sum(weight.numel() for _, weight in _matching(frozen, "weights", kinds_of(model)))


def kind_of(model: nn.Module, name: str, tensor: Tensor) -> Kind:
    """Return the kind of the parameter ``name`` of ``model``, or of a stand-in for it."""
    return kinds_of(model).get(name) or guessed(name, tensor)


def check_selection(model: nn.Module, where: str) -> None:
    """Raise ValueError, naming the nearest parameter, if a part of ``where`` selects nothing of
    ``model``.

    Args:
        model: Whose parameters are selected.
        where: Names and patterns, see ``chosen``.
    """
    for part in where.split() or [where]:
        if not selected(model, part):
            names = [name for name, _ in model.named_parameters()]
            if _matching(model.named_parameters(), part, kinds_of(model)):
                raise ValueError(f"where={part!r} selects weights that are frozen alone: name others, or leave it out")
            raise ValueError(f"where={part!r} selects none of the model's parameters; {nearest(part, names)}")


def _frozen(weight: Tensor) -> bool:
    # Inside torch.func.functional_call the parameters are plain tensors, and those that are given
    # are the trained ones.
    return isinstance(weight, nn.Parameter) and not weight.requires_grad


def _matching(pairs: Iterable[tuple[str, Tensor]], where: str, kinds: Mapping[str, Kind]) -> list[tuple[str, Tensor]]:
    parts = where.split()
    if "all" in parts:
        return list(pairs)
    patterns = [part for part in parts if part != "weights"]
    weights = len(patterns) < len(parts)
    return [
        (name, tensor)
        for name, tensor in pairs
        if (weights and (kinds.get(name) or guessed(name, tensor)) == "weight")
        or any(fnmatchcase(name, pattern) for pattern in patterns)
    ]
