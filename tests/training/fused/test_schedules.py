"""Learning rates of a pack, against torch's schedulers run one by one."""

from typing import Any

import pytest
import torch
from torch import nn

from reglab.core.errors import Unfused
from reglab.training.fused.schedules import Schedules
from reglab.training.recipe import Recipe

SGD = {"_target_": "torch.optim.SGD", "momentum": 0.5}
COSINE = {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "interval": "step"}
STEP = {"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 2, "gamma": 0.5}
PER_EPOCH, EPOCHS = 3, 4


def recipe(lr: float, scheduler: dict[str, Any]) -> Recipe:
    return Recipe({**SGD, "lr": lr}, scheduler, epochs=EPOCHS)


@pytest.mark.parametrize("scheduler", [{}, COSINE, STEP], ids=["constant", "cosine by step", "steps by epoch"])
def test_rates_are_torchs_in_any_chunks_and_after_going_back(scheduler: dict[str, Any]) -> None:
    expected = []
    for lr in (0.1, 0.3, 0.1):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
        plan = None
        if scheduler is COSINE:
            plan = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=PER_EPOCH * EPOCHS)
        if scheduler is STEP:
            plan = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
        rates = []
        for step in range(1, PER_EPOCH * EPOCHS + 1):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if plan is not None and (scheduler is COSINE or step % PER_EPOCH == 0):
                plan.step()
        expected.append(rates)
    right = torch.tensor(expected, dtype=torch.float64).T
    schedules = Schedules([recipe(lr, scheduler) for lr in (0.1, 0.3, 0.1)], PER_EPOCH)
    for first, steps in ((0, 5), (5, 1), (9, 3), (2, 4)):
        assert torch.equal(schedules.rates(first, steps), right[first : first + steps])


def test_a_schedule_that_moves_the_momentum_too_is_refused() -> None:
    one_cycle = {
        "_target_": "torch.optim.lr_scheduler.OneCycleLR",
        "max_lr": 0.1,
        "total_steps": 12,
        "interval": "step",
    }
    with pytest.raises(Unfused, match="OneCycleLR changes more than the learning rate"):
        Schedules([recipe(0.1, one_cycle)], PER_EPOCH)
    still = {**one_cycle, "cycle_momentum": False}
    assert Schedules([recipe(0.1, still)], PER_EPOCH).rates(0, 12).shape == (12, 1)
