"""Exponential moving average of the weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import Tensor, nn

from reglab.regularizers.base import Regularizer
from reglab.regularizers.select import selected


class EMA(Regularizer):
    """Evaluate with ``average <- strength * average + (1 - strength) * w``, updated after every step.

    Training itself is untouched. The average starts at the initial weights, and its decay is held to
    ``(1 + step) / (10 + step)`` at first, so that it forgets them.

    strength: the decay, 0 <= strength < 1; it averages over about ``1 / (1 - strength)`` steps. Source: Polyak &
    Juditsky (1992), Acceleration of stochastic approximation by averaging; Tarvainen & Valpola (2017), Mean teachers.
    """

    claims: ClassVar[frozenset[str]] = frozenset({"weight_average"})
    strength: Tensor
    updates: Tensor

    def __init__(self, strength: float = 0.99) -> None:
        super().__init__()
        self.hyper(strength=strength, minimum=0, below=1)
        self.register_buffer("updates", torch.tensor(0.0, dtype=torch.float64))

    def on_model(self, model: nn.Module) -> nn.Module:
        for name, weight in selected(model, "all"):
            self.register_shaped(_slot(name), weight.detach().clone(), name)
        return model

    def on_step(self, model: nn.Module, step_size: Mapping[str, Tensor]) -> None:
        decay = torch.minimum(self.strength, (1 + self.updates) / (10 + self.updates))
        self.updates.add_(1)
        for name, weight in selected(model, "all"):
            average = self._average(name)
            share = (1 - decay).to(average.dtype)
            own = share * weight.to(average.dtype)
            average.copy_((1 - share) * average + own)  # lerp has no batching rule for members

    @contextmanager
    def evaluating(self, model: nn.Module) -> Iterator[None]:
        """Swap the averages in, and the weights back afterwards, bit for bit."""
        weights = selected(model, "all")
        own = [weight.detach().clone() for _, weight in weights]
        with torch.no_grad():
            for name, weight in weights:
                weight.copy_(self._average(name))
        try:
            yield
        finally:
            with torch.no_grad():
                for (_, weight), saved in zip(weights, own, strict=True):
                    weight.copy_(saved)

    def _average(self, name: str) -> Tensor:
        average: Tensor = getattr(self, _slot(name))
        return average


def _slot(name: str) -> str:
    return "average_" + name.replace(".", "__")
