"""Learning rate schedules of all members of a pack."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from reglab.core.errors import Unfused
from reglab.training.recipe import Recipe
from reglab.training.step_size import base_rate


class Schedules:
    """Learning rates by step, from torch's own schedulers; members with equal settings share one.

    They are pure functions of the step, so a pack saves nothing of them.
    """

    def __init__(self, recipes: Sequence[Recipe], steps_per_epoch: int) -> None:
        """Build one scheduler for each distinct setting.

        Raises:
            Unfused: For a schedule that moves more than the learning rate, such as the momentum.
        """
        self._steps_per_epoch = steps_per_epoch
        settings = [repr((recipe.optimizer, recipe.scheduler, recipe.epochs)) for recipe in recipes]
        distinct = list(dict.fromkeys(settings))
        self._schedule_of = [distinct.index(setting) for setting in settings]
        self._recipes = [recipes[settings.index(setting)] for setting in distinct]
        self._start()

    def rates(self, first: int, steps: int) -> Tensor:
        """Return the rates of the steps from number ``first`` on, float64 [steps, members]."""
        self._advance_to(first)
        rows = []
        for _ in range(steps):
            rows.append([optimizer.param_groups[0]["lr"] for optimizer, _ in self._pairs])
            self._advance(1)
        return torch.tensor(rows, dtype=torch.float64)[:, self._schedule_of]

    def base_rates(self) -> Tensor:
        """Return the learning rate that each member's schedule refers to, float64 [members]."""
        rates = [float(base_rate(optimizer.param_groups[0])) for optimizer, _ in self._pairs]
        return torch.tensor(rates, dtype=torch.float64)[self._schedule_of]

    def state(self, job_index: int, done: int) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Return a member's param group after ``done`` steps, and its schedule's state if any."""
        self._advance_to(done)
        optimizer, scheduled = self._pairs[self._schedule_of[job_index]]
        return dict(optimizer.state_dict()["param_groups"][0]), scheduled and scheduled[0].state_dict()

    def _start(self) -> None:
        self._done = 0
        self._pairs: list[tuple[Optimizer, tuple[LRScheduler, bool] | None]] = []
        for recipe in self._recipes:
            optimizer = recipe.build_optimizer([nn.Parameter(torch.zeros(1))])
            before = _other_numbers(optimizer)
            self._pairs.append((optimizer, recipe.build_scheduler(optimizer, self._steps_per_epoch)))
            optimizer.step()  # once: a scheduler warns where it is asked before its optimizer
            if _other_numbers(optimizer) != before:
                raise Unfused(f"{recipe.scheduler['_target_']} changes more than the learning rate")

    def _advance_to(self, step: int) -> None:
        if step < self._done:
            self._start()
        self._advance(step - self._done)

    def _advance(self, steps: int) -> None:
        for _ in range(steps):
            self._done += 1
            for _, scheduled in self._pairs:
                if scheduled and (scheduled[1] or self._done % self._steps_per_epoch == 0):
                    scheduled[0].step()


def _other_numbers(optimizer: Optimizer) -> list[tuple[str, Any]]:
    group = optimizer.param_groups[0]
    return [
        (key, value) for key, value in group.items() if key not in ("params", "lr", "initial_lr", "max_lr", "min_lr")
    ]
