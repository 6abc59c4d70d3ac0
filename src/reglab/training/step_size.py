"""The optimizer's effective step of each coordinate, which proximal steps are scaled by."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from reglab.errors import UserError

Number = float | Tensor
"""A float where the host knows the number, otherwise 0-dim on the device: sent across, either side would wait."""


def sgd_step(group: Mapping[str, Any], state: Mapping[str, Tensor], lr: Number) -> Number:
    """Return ``lr * (1 - dampening) / (1 - momentum)``: what a constant gradient moves a weight by each step."""
    momentum: float = group["momentum"]
    return lr * (1 - group["dampening"]) / (1 - momentum) if momentum else lr


def adam_step(group: Mapping[str, Any], state: Mapping[str, Tensor], lr: Number) -> Number:
    """Return ``lr / (sqrt(v_hat) + eps)`` in the parameter's shape, after the update that it belongs to.

    A parameter that never had a gradient was never moved: its step is 0.
    """
    if not state:
        return 0.0
    second = state["max_exp_avg_sq"] if group["amsgrad"] else state["exp_avg_sq"]
    # The count is kept in float32, whose power would be off in the sixth digit.
    root = (1 - _number(group["betas"][1]) ** _number(state["step"])) ** 0.5
    # Memory is what takes time here: the correction goes to the 0-dim numbers, the rest happens in place.
    spread = second.to(_real(second.dtype)).sqrt().add_(group["eps"] * root)
    return torch.div(_tensor(lr * root, spread), spread, out=spread)


_STEPS: dict[type[Optimizer], Callable[..., Number]] = {SGD: sgd_step, Adam: adam_step, AdamW: adam_step}


def check_known(optimizer: Optimizer) -> None:
    """Raise UserError for an optimizer whose effective step is unknown."""
    if type(optimizer) not in _STEPS:
        known = ", ".join(kind.__name__ for kind in _STEPS)
        raise UserError(
            f"proximal steps need the effective step size of {type(optimizer).__name__}, which is not known; use one "
            f"of {known}"
        )
    if any(group.get("maximize") for group in optimizer.param_groups):
        raise UserError("proximal steps minimize; the optimizer has maximize=True")


class _ByName(Mapping[str, Tensor]):
    """Numbers of an optimizer by parameter name, in the order of its groups.

    Weights are remembered by where their group stands, never by the group itself: ``load_state_dict`` puts new groups
    in place of the old ones, and with them the learning rates that a schedule moves on.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer) -> None:
        self._model, self._optimizer = model, optimizer
        self._sizes: list[int] = []
        self._weights: dict[str, tuple[Tensor, int]] = {}

    def _find(self, name: str) -> tuple[Tensor, dict[str, Any]]:
        weight, number = self._known()[name]
        return weight, self._optimizer.param_groups[number]

    def _known(self) -> dict[str, tuple[Tensor, int]]:
        """Return each trained weight and the number of its group; looked up anew where groups were added."""
        groups = self._optimizer.param_groups
        sizes = [len(group["params"]) for group in groups]
        if sizes != self._sizes:
            names = {id(weight): name for name, weight in self._model.named_parameters()}
            self._sizes, self._weights = sizes, {
                names[id(weight)]: (weight, number)
                for number, group in enumerate(groups)
                for weight in group["params"]
                if id(weight) in names
            }
        return self._weights

    def __iter__(self) -> Iterator[str]:
        return iter(self._known())

    def __len__(self) -> int:
        return len(self._known())


class StepSizes(_ByName):
    """Effective steps by parameter name, computed when asked for, with the learning rates of the last update.

    Asking raises UserError for an optimizer whose effective step is unknown: plain ``lr`` would solve another problem.
    """

    def __getitem__(self, name: str) -> Tensor:
        weight, group = self._find(name)
        check_known(self._optimizer)
        step = _STEPS[type(self._optimizer)](group, self._optimizer.state[weight], _number(group["lr"]))
        return _tensor(step, weight)


class LearningRates(_ByName):
    """Learning rates by parameter name, 0-dim float64, as they are now."""

    def __getitem__(self, name: str) -> Tensor:
        return torch.as_tensor(self._find(name)[1]["lr"], dtype=torch.float64)


def _number(number: Number) -> Number:
    """Return a number of the optimizer in double precision, where it is."""
    if not isinstance(number, Tensor) or number.device.type == "cpu":
        return float(number)
    return number if number.device.type == "mps" else number.double()  # the former has no double precision


def _tensor(number: Number, like: Tensor) -> Tensor:
    """Return ``number`` in the precision of steps of ``like``, on its device."""
    kind = _real(like.dtype)
    if isinstance(number, Tensor):
        return number.to(like.device, kind)
    return torch.full((), number, dtype=kind, device=like.device)  # made there: a copy from the host would wait


def _real(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype.itemsize >= 4 else torch.float32
