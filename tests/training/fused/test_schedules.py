"""Learning rates of a pack, against torch's schedulers run one by one."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from reglab.training.fused.schedules import Schedules
from reglab.training.recipe import Recipe

SGD = {"_target_": "torch.optim.SGD", "momentum": 0.5}
COSINE = {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "interval": "step"}
STEP = {"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 2, "gamma": 0.5}
CYCLE = {"_target_": "torch.optim.lr_scheduler.OneCycleLR", "max_lr": 0.4, "interval": "step"}
CHAIN = {
    "_target_": "torch.optim.lr_scheduler.SequentialLR",
    "schedulers": [
        {"_target_": "torch.optim.lr_scheduler.LinearLR", "start_factor": 0.1, "total_iters": 3},
        {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR"},
    ],
    "milestones": [0.25],
    "interval": "step",
}
PLATEAU = {"_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau", "factor": 0.5, "patience": 0}
PER_EPOCH, EPOCHS = 3, 4
STEPS = PER_EPOCH * EPOCHS
MODEL = nn.Linear(1, 1)


def recipe(lr: float, scheduler: dict[str, Any], **options: Any) -> Recipe:
    return Recipe({**SGD, "lr": lr, **options}, scheduler, epochs=EPOCHS)


def by_torch(lr: float, scheduler: dict[str, Any]) -> list[tuple[float, float]]:
    """Return learning rate and momentum of each step, from torch alone."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr, momentum=0.5)
    plan: Any = None
    if scheduler is COSINE:
        plan = lr_scheduler.CosineAnnealingLR(optimizer, T_max=STEPS)
    if scheduler is STEP:
        plan = lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
    if scheduler is CYCLE:
        plan = lr_scheduler.OneCycleLR(optimizer, 0.4, total_steps=STEPS)
    if scheduler is CHAIN:
        parts = [lr_scheduler.LinearLR(optimizer, 0.1, total_iters=3), lr_scheduler.CosineAnnealingLR(optimizer, 9)]
        plan = lr_scheduler.SequentialLR(optimizer, parts, [3])
    rates = []
    for step in range(1, STEPS + 1):
        rates.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]))
        optimizer.step()
        if plan is not None and step < STEPS and (scheduler is not STEP or step % PER_EPOCH == 0):
            plan.step()
    return rates


@pytest.mark.parametrize(
    "scheduler", [{}, COSINE, STEP, CYCLE, CHAIN], ids=["constant", "cosine by step", "steps by epoch", "one", "chain"]
)
def test_rates_are_torchs_in_any_chunks_and_after_going_back(scheduler: dict[str, Any]) -> None:
    right = torch.tensor([by_torch(lr, scheduler) for lr in (0.1, 0.3, 0.1)], dtype=torch.float64).permute(2, 1, 0)
    schedules = Schedules([recipe(lr, scheduler) for lr in (0.1, 0.3, 0.1)], PER_EPOCH, MODEL)
    for first, steps in ((0, 5), (5, 1), (9, 2), (2, 4)):
        numbers = schedules.numbers(first, steps)
        torch.testing.assert_close(numbers["lr"], right[0, first : first + steps], rtol=1e-12, atol=1e-15)
        if scheduler in (CYCLE, CHAIN):  # what they move is not known beforehand
            torch.testing.assert_close(numbers["momentum"], right[1, first : first + steps], rtol=1e-12, atol=1e-15)


def test_groups_have_rates_of_their_own() -> None:
    groups = [{"where": "bias", "lr": 0.5}]
    schedules = Schedules([recipe(lr, COSINE, groups=groups) for lr in (0.1, 0.3)], PER_EPOCH, MODEL)
    rates = schedules.numbers(0, STEPS)["lr"]
    assert rates.shape == (STEPS, 2, 2)
    assert rates[0].tolist() == [[0.1, 0.5], [0.3, 0.5]] == schedules.base_rates().tolist()
    torch.testing.assert_close(rates[5, 0, 1] / rates[5, 0, 0], torch.tensor(5.0, dtype=torch.float64))


def test_a_plateau_is_each_members_own_and_survives_a_save() -> None:
    def made() -> Schedules:
        return Schedules([recipe(0.1, PLATEAU) for _ in range(3)], PER_EPOCH, MODEL)

    schedules = made()
    for losses in ([3.0, 3.0, 3.0], [2.0, 3.0, 4.0]):
        schedules.numbers(0, PER_EPOCH)
        schedules.observe([0, 1, 2], {"val/loss": torch.tensor(losses), "terms": torch.tensor(1.0)})
    assert schedules.numbers(6, 2)["lr"].tolist() == [[0.1, 0.05, 0.05]] * 2
    resumed = made()
    resumed.load_state_dict(schedules.state_dict(), 6)
    for each in (schedules, resumed):  # member 0 has ended
        each.observe([1, 2], {"val/loss": torch.tensor([3.5, 2.0])})
        assert each.numbers(9, 1)["lr"].tolist() == [[0.1, 0.025, 0.05]]
    assert not Schedules([recipe(0.1, COSINE)], PER_EPOCH, MODEL).state_dict()
