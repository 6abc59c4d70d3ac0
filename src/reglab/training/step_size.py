"""The optimizer's effective step of each coordinate, which proximal steps are scaled by."""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from reglab.errors import UserError


def sgd_step(group: Mapping[str, Any], state: Mapping[str, Tensor], lr: Tensor) -> Tensor:
    """Return ``lr * (1 - dampening) / (1 - momentum)``, 0-dim: what a constant gradient moves a weight by each step."""
    momentum: float = group["momentum"]
    return lr * (1 - group["dampening"]) / (1 - momentum) if momentum else lr


def adam_step(group: Mapping[str, Any], state: Mapping[str, Tensor], lr: Tensor) -> Tensor:
    """Return ``lr / (sqrt(v_hat) + eps)`` in the parameter's shape, after the update that it belongs to.

    A parameter that never had a gradient was never moved: its step is 0.
    """
    if not state:
        return torch.zeros_like(lr)
    second = state["max_exp_avg_sq"] if group["amsgrad"] else state["exp_avg_sq"]
    # The count is kept in float32, whose power would be off in the sixth digit.
    correction: Tensor = 1 - group["betas"][1] ** state["step"].to(second.device, lr.dtype)
    step: Tensor = lr / ((second / correction).sqrt() + group["eps"])
    return step


_STEPS: dict[type[Optimizer], Callable[..., Tensor]] = {SGD: sgd_step, Adam: adam_step, AdamW: adam_step}


class StepSizes(Mapping[str, Tensor]):
    """Effective steps by parameter name, computed when asked for, with the learning rates of the last update.

    Raises UserError for an optimizer whose effective step is not known: plain ``lr`` would solve another problem.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer) -> None:
        rule = next((step for kind, step in _STEPS.items() if type(optimizer) is kind), None)
        if rule is None:
            known = ", ".join(kind.__name__ for kind in _STEPS)
            raise UserError(
                f"proximal steps need the effective step size of {type(optimizer).__name__}, which is not known; "
                f"use one of {known}"
            )
        if any(group.get("maximize") for group in optimizer.param_groups):
            raise UserError("proximal steps minimize; the optimizer has maximize=True")
        self._rule = rule
        self._optimizer = optimizer
        names = {id(weight): name for name, weight in model.named_parameters()}
        self._places = {
            names[id(weight)]: (weight, group)
            for group in optimizer.param_groups
            for weight in group["params"]
            if id(weight) in names
        }

    def __getitem__(self, name: str) -> Tensor:
        weight, group = self._places[name]
        lr = torch.as_tensor(group["lr"], dtype=torch.float64).to(weight.device, _real(weight.dtype))
        return self._rule(group, self._optimizer.state[weight], lr)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


class LateStepSizes(Mapping[str, Tensor]):
    """``StepSizes``, built at the first look: any optimizer fits members that do not ask for its effective step."""

    def __init__(self, model: nn.Module, optimizer: Optimizer) -> None:
        self._of = model, optimizer

    @cached_property
    def _sizes(self) -> StepSizes:
        return StepSizes(*self._of)

    def __getitem__(self, name: str) -> Tensor:
        return self._sizes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sizes)

    def __len__(self) -> int:
        return len(self._sizes)


class LearningRates(Mapping[str, Tensor]):
    """Learning rates by parameter name, 0-dim float64, as they are now."""

    def __init__(self, model: nn.Module, optimizer: Optimizer) -> None:
        names = {id(weight): name for name, weight in model.named_parameters()}
        self._groups = {
            names[id(weight)]: group
            for group in optimizer.param_groups
            for weight in group["params"]
            if id(weight) in names
        }

    def __getitem__(self, name: str) -> Tensor:
        return torch.as_tensor(self._groups[name]["lr"], dtype=torch.float64)

    def __iter__(self) -> Iterator[str]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)


def _real(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype.itemsize >= 4 else torch.float32
