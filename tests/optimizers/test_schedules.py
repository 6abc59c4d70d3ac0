"""Warm-up, hold and decay, against their formulas."""

import math

import pytest
import torch
from torch import nn

from reglab.core.errors import UserError
from reglab.optimizers.schedules import WarmupDecay


def rates(steps: int = 10, **options: object) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    schedule = WarmupDecay(optimizer, steps, **options)  # type: ignore[arg-type]
    seen = []
    for _ in range(steps + 1):
        seen.append(optimizer.param_groups[0]["lr"] / 0.5)
        optimizer.step()
        schedule.step()
    return seen


def test_a_share_and_a_number_of_steps_are_the_same_warm_up() -> None:
    assert rates(warmup=0.4) == rates(warmup=4)
    assert rates(warmup=4)[:5] == pytest.approx([0.25, 0.5, 0.75, 1, 1])


@pytest.mark.parametrize(
    "shape, decay",
    [
        ("cosine", lambda share: (1 + math.cos(math.pi * share)) / 2),
        ("linear", lambda share: 1 - share),
        ("polynomial", lambda share: (1 - share) ** 2),
        ("sqrt", lambda share: 1 - math.sqrt(share)),
    ],
)
def test_it_holds_and_decays_to_the_last_rate(shape: str, decay: object) -> None:
    power = {"power": 2.0} if shape == "polynomial" else {}
    seen = rates(warmup=2, hold=3, shape=shape, final=0.1, **power)
    wanted = [0.5, 1, 1, 1, 1, *(0.1 + 0.9 * decay(step / 5) for step in range(6))]  # type: ignore[operator]
    assert seen == pytest.approx(wanted)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"warmup": 8, "hold": 3}, "warmup and hold take 8 \\+ 3 steps, and there are 10"),
        ({"warmup": -1}, "scheduler.warmup must be >= 0, got -1"),
        ({"warmup": 1.5}, "scheduler.warmup must be a share below 1, or a number of steps, got 1.5"),
        ({"final": 2}, "scheduler.final must be >= 0 and <= 1, got 2"),
        ({"power": 2.0}, "scheduler.power=2.0 is of the polynomial, and shape is cosine: leave one of them out"),
        ({"power": 0}, "scheduler.power must be > 0"),
        ({"shape": "cosin"}, "scheduler.shape=cosin is not known; did you mean 'cosine'"),
    ],
)
def test_what_it_cannot_be_is_refused(wrong: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        rates(**wrong)
