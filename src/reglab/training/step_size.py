"""Effective step size per coordinate of SGD, Adam and AdamW, for proximal steps."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from reglab.core.errors import UserError

Number = float | Tensor
"""A float where the host knows the number, otherwise 0-dim on the device: a transfer would
synchronize the two.
"""


def sgd_step(group: Mapping[str, Any], lr: Number) -> Number:
    """Return ``lr * (1 - dampening) / (1 - momentum)``: what a constant gradient moves a weight by
    each step.

    Args:
        group: Of the optimizer, with momentum and dampening.
        lr: The learning rate.
    """
    momentum: float = group["momentum"]
    return lr * (1 - group["dampening"]) / (1 - momentum) if momentum else lr


def adam_step(group: Mapping[str, Any], state: Mapping[str, Tensor], lr: Number, typical: Number) -> Number:
    """Return ``lr / (sqrt(v_hat) + eps)`` in the parameter's shape, after the update that it
    belongs to.

    Where the second moment is 0 there never was a gradient, and the minimum of loss and penalty is
    where the penalty's is. Any positive step leads there; ``lr / eps`` would lead there at once,
    and with it every weight whose first batches happened not to reach it. ``typical`` takes the
    place of ``sqrt(v_hat)`` there.

    Args:
        group: Of the optimizer.
        state: Of the weight.
        lr: The learning rate.
        typical: In place of ``sqrt(v_hat)`` where that is 0.

    Returns:
        Positive, in the weight's shape.
    """
    if not state:
        eps: float = group["eps"]
        return lr / (typical + eps)
    second, correction = second_moment(group, state)
    # Memory is what takes time here: the correction goes to the 0-dim numbers, the rest happens in
    # place.
    root = correction**0.5
    spread = second.to(_real(second.dtype)).sqrt()
    # Where it is 0, add the typical one: by signs, since comparing and filling take four times as
    # long.
    spread.add_(spread.sign().sub_(1).mul_(_tensor(-typical * root, spread))).add_(group["eps"] * root)
    return torch.div(_tensor(lr * root, spread), spread, out=spread)


def second_moment(group: Mapping[str, Any], state: Mapping[str, Tensor]) -> tuple[Tensor, Number]:
    """Return Adam's second moment ``v`` and the number by which it is divided to correct
    its bias.
    """
    # The count is kept in float32, whose power would be off in the sixth digit.
    correction = 1 - _number(group["betas"][1]) ** _number(state["step"])
    return state["max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"], correction


def largest_step(lr: Number, beta1: Number, beta2: Number) -> Number:
    """Return twice the most that one step of Adam moves a weight by (Kingma & Ba 2015, section
    2.1).

    ``|m_hat| / sqrt(v_hat)`` is at most ``max(1, (1 - beta1) / sqrt(1 - beta2))``. A proximal step
    that is bounded by the double of it still undoes any step away from 0, so it has the same fixed
    points: it is bounded only where the root mean square of the loss's gradient is below half the
    penalty's, and where the penalty leaves a weight other than 0, the mean of the loss's gradient
    is as large as the penalty's.

    Args:
        lr: The learning rate.
        beta1: Of Adam.
        beta2: Of Adam.
    """
    share = (1 - beta1) / (1 - beta2) ** 0.5
    bound = share.clamp(min=1) if isinstance(share, Tensor) else max(1.0, share)
    return 2 * lr * bound


_KNOWN: tuple[type[Optimizer], ...] = (SGD, Adam, AdamW)


def check_known(optimizer: Optimizer) -> None:
    """Raise UserError for an optimizer whose effective step is unknown."""
    if type(optimizer) not in _KNOWN:
        known = ", ".join(optimizer_type.__name__ for optimizer_type in _KNOWN)
        raise UserError(
            f"proximal steps need the effective step size of {type(optimizer).__name__}, which is not known; use one "
            f"of {known}"
        )
    if any(group.get("maximize") for group in optimizer.param_groups):
        raise UserError("proximal steps need an optimizer that minimizes, got maximize=True; leave it out")


class _ByName(Mapping[str, Tensor]):
    """Numbers of an optimizer by parameter name, 0 for a parameter that it does not hold.

    Weights are remembered by where their group stands, never by the group itself:
    ``load_state_dict`` puts new groups in place of the old ones, and with them the learning rates
    that a schedule moves on.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer) -> None:
        self._model, self._optimizer = model, optimizer
        self._sizes: list[int] = []
        self._known: dict[str, tuple[Tensor, int]] = {}

    def _find(self, name: str) -> tuple[Tensor, dict[str, Any]] | None:
        entry = self._parameters().get(name)
        return None if entry is None else (entry[0], self._optimizer.param_groups[entry[1]])

    def _parameters(self) -> dict[str, tuple[Tensor, int]]:
        """Return the parameters and the numbers of their groups; looked up anew where groups were
        added.
        """
        groups = self._optimizer.param_groups
        sizes = [len(group["params"]) for group in groups]
        if sizes != self._sizes:
            numbers = {id(weight): number for number, group in enumerate(groups) for weight in group["params"]}
            named = self._model.named_parameters()
            self._known = {name: (weight, numbers[id(weight)]) for name, weight in named if id(weight) in numbers}
            self._sizes = sizes
        return self._known

    @property
    def weights(self) -> dict[str, Tensor]:
        """The parameters that the optimizer holds, by name."""
        return {name: weight for name, (weight, _) in self._parameters().items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters())

    def __len__(self) -> int:
        return len(self._parameters())


_ZERO = torch.zeros((), dtype=torch.float64)


def identity(part: Tensor) -> Tensor:
    return part


class StepSizes(_ByName):
    """Effective steps by parameter name, computed when asked for, with the learning rates of the
    last update.

    Asking raises UserError for an optimizer whose effective step is unknown: plain ``lr`` would
    solve another problem.

    Args:
        total: Adds up a tensor of sums over elements over all shards of the weights; see
            ``Regularizer.bind``.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, total: Callable[[Tensor], Tensor] = identity) -> None:
        super().__init__(model, optimizer)
        self._total = total
        self.begin()

    def begin(self, clipped: Number = 1.0) -> None:
        """Begin a step, whose gradient was multiplied by ``clipped``.

        A penalty in the loss would have been scaled down with it; so are the steps, and the minimum
        stays where it is.
        """
        self._clipped = clipped
        self._typical: dict[str, Tensor] | None = None

    def __getitem__(self, name: str) -> Tensor:
        check_known(self._optimizer)
        if (entry := self._find(name)) is None:
            return _ZERO
        weight, group = entry
        lr = _number(group["lr"])
        if isinstance(self._optimizer, SGD):
            step = _tensor(sgd_step(group, lr), weight)
        else:
            step = _tensor(adam_step(group, _local(self._optimizer.state[weight]), lr, self._typical_of(name)), weight)
        return step if isinstance(self._clipped, float) and self._clipped == 1 else step * self._clipped

    def largest(self, name: str) -> Tensor | None:
        """Return what a proximal step moves a weight by at most, None where nothing bounds it; see
        ``largest_step``.
        """
        if (entry := self._find(name)) is None or isinstance(self._optimizer, SGD):
            return None
        weight, group = entry
        return _tensor(largest_step(_number(group["lr"]), *map(_number, group["betas"])), weight)

    def _typical_of(self, name: str) -> Tensor:
        """Return the root mean square of ``sqrt(v_hat)`` over the parameter's coordinates that had
        a gradient.

        Over those of all parameters where none of its own had one, and infinite where none at all.
        """
        if self._typical is None:
            self._typical = self._typicals()
        return self._typical.get(name, self._typical[""])

    def _typicals(self) -> dict[str, Tensor]:
        names, sums = [], []
        for name, (weight, number) in self._parameters().items():
            if state := self._optimizer.state.get(weight):
                second, correction = second_moment(self._optimizer.param_groups[number], _local(state))
                total = second.sum(dtype=_real(second.dtype)) / correction
                names.append(name)
                sums.append(torch.stack([total, second.sign().sum(dtype=total.dtype)]))
        if not sums:
            return {"": torch.full((), torch.inf)}
        dtype = max((each.dtype for each in sums), key=lambda dtype: dtype.itemsize)
        totals = self._total(torch.stack([each.to(dtype) for each in sums]))
        per_parameter, everywhere = root_mean_squares(totals[:, 0], totals[:, 1])
        return dict(zip(names, per_parameter.unbind(), strict=True)) | {"": everywhere}


def root_mean_squares(sums: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return the root mean square of each parameter and that of all of them, from sums of squares
    and their counts.

    Where a parameter counts nothing, it is that of all, and infinite where nothing counts at all.

    Args:
        sums: ``[parameters]``.
        counts: ``[parameters]``.

    Returns:
        ``[parameters]``, and 0-dim.
    """
    everywhere = (sums.sum() / counts.sum()).sqrt()  # 0 / 0 is NaN
    everywhere = torch.where(counts.sum() > 0, everywhere, torch.inf)
    return torch.where(counts > 0, (sums / counts.clamp(min=1)).sqrt(), everywhere), everywhere


class LearningRates(_ByName):
    """Learning rates by parameter name, 0-dim float64, as they are now."""

    def __getitem__(self, name: str) -> Tensor:
        entry = self._find(name)
        return _ZERO if entry is None else torch.as_tensor(entry[1]["lr"], dtype=torch.float64)

    def relative(self, name: str) -> Tensor:
        """Return the learning rate divided by that which the schedule starts from, 1
        without one.
        """
        entry = self._find(name)
        return _ZERO if entry is None else self[name] / base_rate(entry[1])


def base_rate(group: Mapping[str, Any]) -> Number:
    """Return the learning rate that a schedule's factors refer to, from a group that torch's
    schedulers have marked.
    """
    rate: Number = group.get("max_lr", group.get("initial_lr", group["lr"]))
    return rate


def _local(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an optimizer's state of a weight, of one that FSDP has sharded this device's part."""
    if not any(hasattr(value, "to_local") for value in state.values()):
        return state
    return {key: value.to_local() if hasattr(value, "to_local") else value for key, value in state.items()}


def _number(number: Number) -> Number:
    """Return a number of the optimizer in double precision, where it is."""
    if not isinstance(number, Tensor) or number.device.type == "cpu":
        return float(number)
    return number if number.device.type == "mps" else number.double()  # the former has no double precision


def _tensor(number: Number, like: Tensor) -> Tensor:
    """Return ``number`` in the precision of steps of ``like``, on its device."""
    dtype = _real(like.dtype)
    if isinstance(number, Tensor):
        return number.to(like.device, dtype)
    return torch.full((), number, dtype=dtype, device=like.device)  # made there: a copy from the host would wait


def _real(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype.itemsize >= 4 else torch.float32
