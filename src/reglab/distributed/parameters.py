"""Local parameters of a model: its trained weights on this device, whole or sharded."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from reglab.measures.weights import Whole
from reglab.regularizers import Cocktail


class LocalParameters:
    """Parameters of a model that is not sharded.

    Attributes:
        hook_target: What the cocktail's hooks are called with.
        weights: The trained ones by name, as the optimizer moves them.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.hook_target = model
        self.weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}

    @property
    def shards(self) -> Whole | None:
        """The reductions over shards; None where the weights are whole."""
        return None

    def first_elements(self) -> dict[str, int]:
        """Return by name the index of this device's first element in the flattened whole weight."""
        return dict.fromkeys(self.weights, 0)

    def penalty_gradients(
        self, cocktail: Cocktail, weights: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the penalties of ``weights`` by member, and their joint gradient by weight, of this
        device's shards where these are sharded.

        Args:
            cocktail: The regularizers.
            weights: As an optimizer holds them, by name.
        """
        penalties = cocktail.penalties(weights)
        if not penalties:
            return {}, {}
        total = torch.stack(list(penalties.values())).sum()
        gradients = torch.autograd.grad(total, list(weights.values()), allow_unused=True)
        return penalties, {name: each for name, each in zip(weights, gradients, strict=True) if each is not None}

    def add_gradient(self, weight: Tensor, gradient: Tensor) -> None:
        """Add ``gradient``, of this device's shard where it is sharded, to that of ``weight``."""
        if weight.grad is None:
            weight.grad = gradient
        else:  # a sparse one cannot take it in place
            weight.grad = gradient + weight.grad if weight.grad.is_sparse else weight.grad.add_(gradient)

    def shard_of(self, name: str, whole: Tensor) -> Tensor:
        """Return this device's shard of a tensor in the shape of the weight ``name``."""
        return whole

    def whole(self, name: str, part: Tensor) -> Tensor:
        """Gather the whole tensor from this device's shard ``part``.

        A collective where it is sharded.
        """
        return part

    def for_checkpoint(self, name: str, part: Tensor) -> Tensor:
        """Gather the whole tensor for a checkpoint; if sharded, on the CPU of the writing rank
        only.
        """
        return part

    def total(self, part: Tensor) -> Tensor:
        """All-reduce a sum over elements of the weights over their shards."""
        return part

    def clear(self) -> None:
        """Set all gradients to None."""
        for weight in self.weights.values():
            weight.grad = None

    def gradients(self) -> dict[str, Tensor]:
        """Return the gradients by name, of the weights that have one."""
        return {name: weight.grad for name, weight in self.weights.items() if weight.grad is not None}

    def penalties(self, cocktail: Cocktail) -> dict[str, Tensor]:
        """Return the penalties as terms of the loss, or, where they are no part of it, with their
        gradient added.
        """
        return cocktail.penalties(self.weights)

    in_loss = True
    """Whether penalties are terms of the loss that is differentiated."""

    def collect(self) -> None:
        """Move the gradients of a backward pass to the local parameters."""

    def clip(self, max_norm: float) -> Tensor:
        """Clip the gradient to ``max_norm`` and return the factor that it was scaled by, 0-dim."""
        return clip_factor(torch.nn.utils.clip_grad_norm_(self.weights.values(), max_norm), max_norm)

    def reshard(self) -> None:
        """Reshard FSDP parameters, which may change now."""

    @contextmanager
    def perturbed(self, offset: Mapping[str, Tensor] | None) -> Iterator[None]:
        """Temporarily perturb the parameters by ``offset``; they are restored bit for bit."""
        if offset is None:
            yield
            return
        original = {name: self.weights[name].detach().clone() for name in offset}
        with torch.no_grad():
            for name, step in offset.items():
                self.weights[name].add_(step)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, weight in original.items():
                    self.weights[name].copy_(weight)


def as_local_parameters(model: nn.Module | LocalParameters) -> LocalParameters:
    """Return ``model`` as local parameters."""
    return model if isinstance(model, LocalParameters) else LocalParameters(model)


def clip_factor(whole: Tensor, norm: float) -> Tensor:
    """Return the factor of ``torch.nn.utils.clip_grad_norm_`` for a total norm, 0-dim.

    Args:
        whole: The gradient's total norm, 0-dim.
        norm: The largest norm that is allowed.

    Returns:
        0-dim, at most 1.
    """
    return (norm / (whole + 1e-6)).clamp(max=1.0)
