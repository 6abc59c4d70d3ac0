"""Learning rate schedules that torch has not: warm-up, a plateau, and a decay to the run's end."""

import math
from collections.abc import Callable, Mapping
from typing import Literal

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from reglab.core.errors import UserError, nearest

Shape = Literal["cosine", "linear", "polynomial", "sqrt"]
_SHAPES: Mapping[str, Callable[[float, float], float]] = {
    "cosine": lambda share, power: (1 + math.cos(math.pi * share)) / 2,
    "linear": lambda share, power: 1 - share,
    "polynomial": lambda share, power: (1 - share) ** power,
    "sqrt": lambda share, power: 1 - math.sqrt(share),
}


class WarmupDecay(LRScheduler):
    """A linear warm-up, a stretch at the full learning rate, and a decay; a function of the step.

    Warm-up and cosine (``hold=0``), the warm-up, stable, decay of WSD (``hold=0.7``), and
    polynomial decay are of this form. In the first of ``n`` steps of a warm-up the rate is ``1 /
    n`` of the full one.

    Args:
        optimizer: Whose learning rates are scheduled.
        total_steps: Steps of the whole schedule; epochs with ``interval: epoch``.
        warmup: Share of them, below 1, or their number.
        hold: Share of them at the full rate, or their number.
        shape: Of the decay: ``cosine``, ``linear``, ``polynomial`` or ``sqrt`` (``1 -
            sqrt(share)``).
        power: Of the polynomial.
        final: The last rate, as a share of the full one.
        last_epoch: As torch's schedulers have it.

    Source:
        Loshchilov & Hutter (2017), SGDR; Hägele et al. (2024), Scaling laws beyond fixed training
        durations, arXiv:2405.18392 (hold, ``sqrt``).
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int,
        warmup: float = 0.0,
        hold: float = 0.0,
        shape: Shape = "cosine",
        power: float = 1.0,
        final: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        if shape not in _SHAPES:
            raise UserError(f"scheduler.shape={shape} is not known; {nearest(str(shape), _SHAPES)}")
        for name, value, most in (("warmup", warmup, math.inf), ("hold", hold, math.inf), ("final", final, 1.0)):
            if most > 1 and 1 < value != int(value):
                raise UserError(f"scheduler.{name} must be a share below 1, or a number of steps, got {value}")
            if not 0 <= value <= most:
                raise UserError(f"scheduler.{name} must be >= 0{'' if most > 1 else ' and <= 1'}, got {value}")
        if not power > 0:
            raise UserError(f"scheduler.power must be > 0, got {power}")
        if power != 1 and shape != "polynomial":
            raise UserError(
                f"scheduler.power={power} is of the polynomial, and shape is {shape}: leave one of them out"
            )
        self.total_steps = total_steps
        self.warmup, self.hold = (round(total_steps * part) if part < 1 else int(part) for part in (warmup, hold))
        if self.warmup + self.hold > total_steps:
            raise UserError(
                f"scheduler: warmup and hold take {self.warmup} + {self.hold} steps, and there are {total_steps}: "
                "give shares below 1, or fewer"
            )
        self.shape, self.power, self.final = shape, power, final
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | Tensor]:
        """Return the learning rate of each param group."""
        factor = self.factor(self.last_epoch)
        return [rate * factor for rate in self.base_lrs]

    def factor(self, step: int) -> float:
        """Return the share of the full learning rate that a step has, from step 0 on."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        begun = self.warmup + self.hold
        if step < begun:
            return 1.0
        share = min(1.0, (step - begun) / max(1, self.total_steps - begun))
        return self.final + (1 - self.final) * _SHAPES[self.shape](share, self.power)
