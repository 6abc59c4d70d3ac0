"""Exponential moving average of the weights."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from reglab.regularizers.weight_average import WeightAverage, buffer_name

WARMUP = 9.0  # of checkpoints that do not hold it


class EMA(WeightAverage):
    """Evaluate with ``average <- d * average + (1 - d) * w``, updated after every step.

    Training itself is untouched. In update ``t`` (1, 2, ...) the decay is
    ``d = min(strength, t / (t + warmup))``, and 0 in the first: the initial weights do not count,
    so that an average of weights inside a convex bound (``max_norm``) is inside it, too. It follows
    the other members wherever it stands among them, and so averages projected weights.

    A decay above ``steps / (steps + warmup)`` changes nothing in a run of so many steps. warmup 9
    averages over about the last tenth of the run at most, 1 evenly over all of it, 0 holds the
    decay from the second step on (the weights after the first step then count long).

    BatchNorm's running statistics are averaged alike, as timm's ``ModelEma`` does: the last ones
    belong to the last weights, not to their average. To take them anew of the training rows would
    be exact, and costs a pass over these.

    Args:
        strength: The decay, 0 <= strength < 1; it averages over about ``1 / (1 - strength)`` steps.
        warmup: In steps, >= 0. 9 is TensorFlow's ``ExponentialMovingAverage(decay, num_updates)``.

    Source:
        Polyak & Juditsky (1992), Acceleration of stochastic approximation by averaging; Tarvainen &
        Valpola (2017), Mean teachers; Shamir & Zhang (2013), Stochastic gradient descent for
        non-smooth optimization, of the average that the warm-up makes (polynomial decay).
    """

    strength: Tensor
    warmup: Tensor
    updates: Tensor

    def __init__(self, strength: float = 0.99, warmup: float = WARMUP) -> None:
        super().__init__()
        self.hyper(strength=strength, minimum=0, below=1)
        self.hyper(warmup=warmup, minimum=0)
        self.register_buffer("updates", torch.tensor(0.0, dtype=torch.float64))

    def on_model(self, model: nn.Module) -> nn.Module:
        super().on_model(model)
        norms = [path for path, module in model.named_modules() if isinstance(module, _NormBase)]
        for name, buffer in model.named_buffers():
            path, _, key = name.rpartition(".")
            if path in norms and key in ("running_mean", "running_var"):
                self.statistics[name] = buffer_name(name)
                self.register_buffer(buffer_name(name), buffer.detach().clone())
        return model

    def on_step(self, model: nn.Module, step_size: Mapping[str, Tensor]) -> None:
        step = self.updates + 1
        decay = torch.minimum(self.strength, step / (step + self.warmup)) * (self.updates > 0)
        self.updates.add_(1)
        for name, weight in self.averaged(model):
            average = self.kept(name)
            share = (1 - decay).to(average.dtype)
            addend = share * weight.to(average.dtype)
            average.copy_((1 - share) * average + addend)  # lerp has no batching rule for members

    def advice(self, steps: int) -> str | None:
        """Return a sentence where the warm-up holds the decay in a run of ``steps`` steps below
        ``strength``.
        """
        most, strength, warmup = self.most(steps), float(self.strength), float(self.warmup)
        if strength <= most:
            return None
        return (
            f"in a run of {steps} steps no decay above {most:.4g} has an effect, since the warm-up holds it to "
            f"steps / (steps + {warmup:g}); compare smaller ones, train longer, or set warmup to "
            f"{'0' if warmup <= 1 else '1 (an even average of all steps) or 0 (none)'}"
        )

    def most(self, steps: int) -> float:
        """Return the largest decay that has an effect in a run of ``steps`` steps."""
        return steps / (steps + float(self.warmup)) if steps > 1 else 0.0

    def complete(self, state: dict[str, Any], prefix: str, model: Mapping[str, Tensor]) -> None:
        """Give a state from before there were these the warm-up of then, and the last statistics as
        their average.
        """
        state.setdefault(f"{prefix}warmup", torch.tensor(WARMUP, dtype=torch.float64))
        for name, own in self.statistics.items():
            state.setdefault(f"{prefix}{own}", model.get(name, self.get_buffer(own)))
