"""Averages of the weights: kept beside them, and swapped in where a model is judged."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import Tensor, nn

from reglab.regularizers.base import Regularizer
from reglab.regularizers.select import selected


class WeightAverage(Regularizer, ABC):
    """Keeps a tensor for each weight, from which ``average`` computes what is evaluated.

    Attributes:
        apart: Whether the statistics of the average stand beside those of the trained weights, as
            ``weights/averaged/...``; else they take their place.
    """

    claims: ClassVar[frozenset[str]] = frozenset({"weight_average"})
    apart: ClassVar[bool] = True

    def on_model(self, model: nn.Module) -> nn.Module:
        for name, weight in selected(model, "all"):
            self.register_shaped(buffer_name(name), self.initial(weight.detach()), name)
        return model

    @abstractmethod
    def on_step(self, model: nn.Module, step_size: Mapping[str, Tensor]) -> None: ...

    def initial(self, weight: Tensor) -> Tensor:
        """Return what is kept of a weight before the first step."""
        return weight.clone()

    def average(self, name: str, weight: Tensor) -> Tensor:
        """Return the average of a weight, or of one of the ``statistics``."""
        return self.kept(name)

    def kept(self, name: str) -> Tensor:
        """Return what is kept of a weight."""
        return self.get_buffer(buffer_name(name))

    def averaged(self, model: nn.Module) -> list[tuple[str, Tensor]]:
        """Return the weights and statistics that are averaged, by name."""
        if not self.statistics:
            return selected(model, "all")
        buffers = dict(model.named_buffers())
        return [*selected(model, "all"), *((name, buffers[name]) for name in self.statistics)]

    @contextmanager
    def evaluating(self, model: nn.Module) -> Iterator[None]:
        """Swap the averages in, and the weights back afterwards, bit for bit."""
        weights = self.averaged(model)
        trained = [weight.detach().clone() for _, weight in weights]
        with torch.no_grad():
            for name, weight in weights:
                weight.copy_(self.average(name, weight))
        try:
            yield
        finally:
            with torch.no_grad():
                for (_, weight), value in zip(weights, trained, strict=True):
                    weight.copy_(value)


BY_OPTIMIZER = "optimizer"
"""The name in a cocktail of the average that an optimizer stands for."""


def buffer_name(name: str) -> str:
    """Return the name of the buffer in which an average of a weight is kept."""
    return "average_" + name.replace(".", "__")
