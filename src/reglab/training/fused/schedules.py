"""Learning rate schedules of all members of a pack."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    ExponentialLR,
    LinearLR,
    MultiStepLR,
    PolynomialLR,
    ReduceLROnPlateau,
    StepLR,
)  # fmt: skip

from reglab.optimizers.schedules import WarmupDecay
from reglab.training.fused.optimizers import numbers_of
from reglab.training.fused.stack import by_member
from reglab.training.recipe import Recipe
from reglab.training.schedule import Schedule
from reglab.training.step_size import base_rate

# What moves the learning rate and nothing else.
_RATE_ALONE = (CosineAnnealingLR, CosineAnnealingWarmRestarts, ExponentialLR, LinearLR, MultiStepLR, PolynomialLR,
               ReduceLROnPlateau, StepLR, WarmupDecay)  # fmt: skip


class Schedules:
    """The optimizers' numbers by step, from torch's own schedulers; members with equal settings
    share one.

    They are pure functions of the step, so a pack saves nothing of them, but for those that look
    for a plateau: each member has its own then, whose state is saved.
    """

    def __init__(self, recipes: Sequence[Recipe], steps_per_epoch: int, model: nn.Module) -> None:
        self._steps_per_epoch, self._model = steps_per_epoch, model
        settings = [repr((recipe.optimizer, recipe.scheduler, recipe.epochs)) for recipe in recipes]
        self._observes = any(_looks_for_plateau(recipe) for recipe in recipes)
        if self._observes:
            settings = [f"{number} {setting}" for number, setting in enumerate(settings)]
        distinct = list(dict.fromkeys(settings))
        self._schedule_of = [distinct.index(setting) for setting in settings]
        self._recipes = [recipes[settings.index(setting)] for setting in distinct]
        self._start()

    def numbers(self, first: int, steps: int) -> dict[str, Tensor]:
        """Return the optimizers' numbers in the steps from number ``first`` on, float64 [steps,
        jobs], or [steps, jobs, groups] where there are several param groups.

        They are the learning rate ``lr``, and, where a schedule moves more, the others.
        """
        self._advance_to(first)
        rows: list[dict[str, list[list[float]]]] = []
        for _ in range(steps):
            rows.append(self._now())
            self._advance(1)
        return {name: torch.stack([by_member(row[name]) for row in rows])[:, self._schedule_of] for name in rows[0]}

    def optimizers(self) -> list[Optimizer]:
        """Return each job's optimizer, of stand-ins for the weights."""
        return [self._pairs[number][0] for number in self._schedule_of]

    def base_rates(self) -> Tensor:
        """Return the learning rates that each member's schedule refers to, float64 [jobs], or
        [jobs, groups].
        """
        rates = [[float(base_rate(group)) for group in optimizer.param_groups] for optimizer, _ in self._pairs]
        return by_member(rates)[self._schedule_of]

    def state(self, job_index: int, done: int) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
        """Return a member's param groups after ``done`` steps, and its schedule's state if any."""
        self._advance_to(done)
        optimizer, schedule = self._pairs[self._schedule_of[job_index]]
        return optimizer.state_dict()["param_groups"], None if schedule is None else schedule.scheduler.state_dict()

    def observe(self, job_indices: Sequence[int], metrics: Mapping[str, Tensor]) -> None:
        """Move those that look for a plateau, by the metrics of a measured epoch, [rows] each.

        Args:
            job_indices: The job in each row.
            metrics: By name.
        """
        if not self._observes:
            return
        for row, job_index in enumerate(job_indices):
            schedule = self._pairs[self._schedule_of[job_index]][1]
            if schedule is not None:
                schedule.observe({name: value[row] for name, value in metrics.items() if value.dim()})

    def state_dict(self) -> list[dict[str, Any]]:
        """Return what a resumed pack needs: of each schedule that looks for a plateau, the rates
        and its state.
        """
        if not self._observes:
            return []
        return [
            {"lr": [float(group["lr"]) for group in optimizer.param_groups], "state": schedule.scheduler.state_dict()}
            for optimizer, schedule in self._pairs
            if schedule is not None
        ]

    def load_state_dict(self, states: Sequence[Mapping[str, Any]], done: int) -> None:
        """Take over a state after ``done`` steps."""
        for (optimizer, schedule), state in zip(self._pairs, states, strict=False):
            assert schedule is not None
            schedule.scheduler.load_state_dict(dict(state["state"]))
            for group, rate in zip(optimizer.param_groups, state["lr"], strict=True):
                group["lr"] = rate
        if states:
            self._done = done

    def _start(self) -> None:
        self._done = 0
        self._pairs: list[tuple[Optimizer, Schedule | None]] = []
        for recipe in self._recipes:
            optimizer = recipe.build_optimizer(self._model)
            self._pairs.append((optimizer, recipe.build_schedule(optimizer, self._steps_per_epoch)))
            optimizer.step()  # once: a scheduler warns where it is asked before its optimizer
        schedulers = [schedule.scheduler for _, schedule in self._pairs if schedule is not None]
        self._rate_alone = all(isinstance(scheduler, _RATE_ALONE) for scheduler in schedulers)

    def _now(self) -> dict[str, list[list[float]]]:
        """Return the numbers of each distinct setting's param groups, by name."""
        if self._rate_alone:
            return {"lr": [[float(group["lr"]) for group in optimizer.param_groups] for optimizer, _ in self._pairs]}
        found = [numbers_of(optimizer) for optimizer, _ in self._pairs]
        return {name: [[group[name] for group in groups] for groups in found] for name in found[0][0]}

    def _advance_to(self, step: int) -> None:
        if step < self._done and not self._observes:  # the rates of a plateau are those of the last measurement
            self._start()
        self._advance(step - self._done)

    def _advance(self, steps: int) -> None:
        for _ in range(steps):
            self._done += 1
            for _, schedule in self._pairs:
                if schedule is not None:
                    schedule.advance(self._done % self._steps_per_epoch != 0)


def _looks_for_plateau(recipe: Recipe) -> bool:
    return str(recipe.scheduler.get("_target_", "")).endswith("ReduceLROnPlateau")
