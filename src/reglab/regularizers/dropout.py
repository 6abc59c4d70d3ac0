"""Dropout, inserted into any model."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear  # MultiheadAttention's: held, never called

from reglab.regularizers.base import Regularizer
from reglab.regularizers.keys import Keys
from reglab.regularizers.parameter_kinds import with_weights


def drop(inputs: Tensor, rate: Tensor, draws: Tensor) -> Tensor:
    """Return ``inputs`` with elements zeroed where ``draws < rate`` and the others divided by
    ``1 - rate``.

    Args:
        inputs: Any shape.
        rate: 0-dim, 0 <= rate < 1.
        draws: Uniform numbers in [0, 1), in the shape of ``inputs``.

    Returns:
        Same shape and dtype as ``inputs``.

    Example:
        >>> drop(torch.ones(4), torch.tensor(0.5), torch.tensor([0.1, 0.6, 0.4, 0.9]))
        tensor([0., 2., 0., 2.])
    """
    # Compared with >=, since a draw can be exactly 0: at rate 0 everything is kept.
    return inputs * ((draws >= rate) / (1 - rate)).to(inputs.dtype)


class Dropout(Regularizer):
    """Zero each input of the inner layers with probability ``strength``, anew for every example and
    step.

    It is inserted before every ``nn.Linear`` but the first layer of the model that has weights, so
    on hidden units; where a model has a single layer, on its inputs. Draws depend on the example,
    not on its position in the batch.

    Not inside ``nn.MultiheadAttention``, which computes its projections in one function, without
    calling the ``nn.Linear`` that holds the last one; its own argument ``dropout`` drops attention.
    Layers whose weights a model uses without calling them are named before training, since nothing
    can be inserted there.

    Args:
        strength: The rate, 0 <= strength < 1.

    Source:
        Srivastava et al. (2014), Dropout: a simple way to prevent neural networks from overfitting.
    """

    strength: Tensor

    def __init__(self, strength: float = 0.5) -> None:
        super().__init__()
        self.hyper(strength=strength, minimum=0, below=1)

    def on_model(self, model: nn.Module) -> nn.Module:
        layers = list(with_weights(model))
        inner = [
            (name, layer)
            for name, layer in layers[1:] or layers
            if isinstance(layer, nn.Linear) and not isinstance(layer, NonDynamicallyQuantizableLinear)
        ]
        if not inner:
            raise ValueError(
                "dropout found no nn.Linear after the model's first layer to be inserted before; leave it out"
            )
        for name, layer in inner:
            layer.register_forward_pre_hook(_DropInputs(self, name))
        return model


class _DropInputs:
    """A forward pre-hook: it renames no parameter and adds no module.

    It holds the regularizer itself, not its rate: a buffer shared by two modules is untied by
    ``.to()``, and a deep copy of model and regularizer together keeps this reference between the
    copies.
    """

    def __init__(self, regularizer: Dropout, site: str) -> None:
        self.regularizer = regularizer
        self.site = site

    def __call__(self, layer: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        if not layer.training:
            return arguments
        inputs = arguments[0]
        draws = self.regularizer.keys.uniform(inputs.shape, self.regularizer.name, self.site)
        return (drop(inputs, self.regularizer.strength, draws), *arguments[1:])


class KeyedDropout(nn.Module):
    """Stands in for a user's own ``nn.Dropout`` once a model is taken over: the same rate,
    counter-based draws.
    """

    keys: Keys

    def __init__(self, rate: float, keys: Keys, site: str) -> None:
        super().__init__()
        self.rate = rate
        self.site = site
        self.__dict__["keys"] = keys  # unregistered: it belongs to the cocktail

    @property
    def p(self) -> float:
        """The rate, by ``nn.Dropout``'s name for it: models read it there, for attention that drops
        by itself.
        """
        return self.rate

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return inputs
        if self.rate == 1:
            return torch.zeros_like(inputs)
        # Not torch.tensor: its copy to a GPU would make each step wait.
        rate = torch.full((), self.rate, dtype=torch.float64, device=inputs.device)
        return drop(inputs, rate, self.keys.uniform(inputs.shape, "nn.Dropout", self.site))


def take_over_dropout(model: nn.Module, keys: Keys) -> None:
    """Replace every ``nn.Dropout`` inside ``model`` by one whose draws are counter-based."""
    for path, module in list(model.named_modules()):
        # Not named_children, which skips a module's second name in its parent.
        for name, child in list(module._modules.items()):
            if type(child) is nn.Dropout:
                setattr(module, name, KeyedDropout(child.p, keys, f"{path}.{name}"))
