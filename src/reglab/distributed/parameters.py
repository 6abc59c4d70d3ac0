"""The model as optimizer and cocktail see it: its trained weights on this device, whole or this rank's parts."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from reglab.measures.weights import Whole
from reglab.regularizers import Cocktail


class Body:
    """A model that is whole on this device.

    acted_on: what the cocktail's hooks are called with. weights: the trained ones by name, as the optimizer moves them.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.acted_on = model
        self.weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}

    @property
    def shards(self) -> Whole | None:
        """How numbers of shards become those of the whole; None where the weights are whole."""
        return None

    def cut(self, name: str, whole: Tensor) -> Tensor:
        """Return this device's part of a tensor in the shape of the weight ``name``."""
        return whole

    def whole(self, name: str, part: Tensor) -> Tensor:
        """Return the whole tensor that this device has a ``part`` of. A collective where it is sharded."""
        return part

    def saved(self, name: str, part: Tensor) -> Tensor:
        """Return the whole tensor for a checkpoint: on the CPU, and on the rank that writes it alone, if sharded."""
        return part

    def total(self, part: Tensor) -> Tensor:
        """Return a sum over elements of the weights, added up over all shards of them."""
        return part

    def clear(self) -> None:
        """Forget the gradient."""
        for weight in self.weights.values():
            weight.grad = None

    def gradients(self) -> dict[str, Tensor]:
        """Return the gradient by name, as far as there is one."""
        return {name: weight.grad for name, weight in self.weights.items() if weight.grad is not None}

    def penalties(self, cocktail: Cocktail) -> dict[str, Tensor]:
        """Return the penalties as terms of the loss, or, where they are no part of it, with their gradient added."""
        return cocktail.penalties(self.weights)

    in_loss = True
    """Whether penalties are terms of the loss that is differentiated."""

    def collect(self) -> None:
        """Take over what a backward pass left."""

    def clip(self, norm: float) -> Tensor:
        """Scale the gradient down to ``norm`` where it is longer, and return by what it was multiplied, 0-dim."""
        return clip_factor(torch.nn.utils.clip_grad_norm_(self.weights.values(), norm), norm)

    def rest(self) -> None:
        """Give back what a forward pass holds of the weights, which may change now."""

    @contextmanager
    def beside(self, offset: Mapping[str, Tensor] | None) -> Iterator[None]:
        """A context in which the weights lie beside their place by ``offset``; put back bit for bit."""
        if offset is None:
            yield
            return
        saved = {name: self.weights[name].detach().clone() for name in offset}
        with torch.no_grad():
            for name, step in offset.items():
                self.weights[name].add_(step)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, weight in saved.items():
                    self.weights[name].copy_(weight)


def as_body(model: nn.Module | Body) -> Body:
    """Return the body of a whole model."""
    return model if isinstance(model, Body) else Body(model)


def clip_factor(whole: Tensor, norm: float) -> Tensor:
    """Return what ``torch.nn.utils.clip_grad_norm_`` multiplies a gradient by, from its total norm, 0-dim."""
    return (norm / (whole + 1e-6)).clamp(max=1.0)
