"""Find parameters that get no gradient, for DDP's ``find_unused_parameters``."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from reglab.regularizers import Batch, Cocktail, Objective


def unreached(model: nn.Module, objective: Objective, cocktail: Cocktail, batch: Batch) -> list[str]:
    """Return the trained weights that get no gradient from the objective or a penalty, tried on
    ``batch``.

    Model, cocktail and random state are left as they were.

    Args:
        model: The model.
        objective: The loss with its regularizers.
        cocktail: Whose penalties count, too.
        batch: A few rows.

    Returns:
        Names of parameters.
    """
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    before = [buffer.clone() for buffer in _buffers(model, cocktail)]
    cocktail.keys.index = batch.index
    cocktail.keys.begin()
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            terms = [*objective(model, batch).terms.values(), *cocktail.penalties(weights).values()]
            gradients = torch.autograd.grad(torch.stack(terms).sum(), list(weights.values()), allow_unused=True)
    finally:
        cocktail.keys.index = None
        with torch.no_grad():
            for buffer, value in zip(_buffers(model, cocktail), before, strict=True):
                buffer.copy_(value)
    return [name for name, gradient in zip(weights, gradients, strict=True) if gradient is None]


def _buffers(*modules: nn.Module) -> Iterable[Tensor]:
    return [buffer for module in modules for buffer in module.buffers()]
