"""Effective step size of each coordinate, for proximal steps."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from reglab.core.errors import UserError
from reglab.optimizers import Number, Scale, UpdateRule, rule_for
from reglab.optimizers.rule import double, named_like


def known_rule(optimizer: Optimizer) -> UpdateRule:
    """Return the rule of an optimizer that proximal steps fit.

    Raises:
        UserError: For any other, with the way out.
    """
    rule, name = rule_for(type(optimizer)), type(optimizer).__name__
    if rule is None:
        known = named_like(type(optimizer))
        raise UserError(
            f"proximal steps need the effective step size of {name}, which is not known: describe it by an UpdateRule "
            f"beside it, or use {known or 'Adam, SGD, ...'} or l1_subgradient"
        )
    if rule.refused:
        raise UserError(f"proximal steps do not fit {name}: {rule.refused}; use AdamW, SGD, ... or l1_subgradient")
    if any(group.get("maximize") for group in optimizer.param_groups):
        raise UserError("proximal steps need an optimizer that minimizes, got maximize=True; leave it out")
    return rule


def size_of(scale: Scale, typical: Number) -> Number:
    """Return the effective step: a number, or one for each coordinate.

    Where the second moment is 0 there never was a gradient, and the minimum of loss and penalty is
    where the penalty's is. Any positive step leads there; ``rate / eps`` would lead there at once,
    and with it every weight whose first batches happened not to reach it. ``typical`` takes the
    place of the root of the second moment there.
    """
    if scale.second is None:
        size = scale.rate / (typical + scale.eps) if scale.adaptive else scale.rate
        return size if scale.gain is None else scale.gain * _tensor(size, scale.gain)
    # Memory is what takes time here: the correction goes to the 0-dim numbers, the rest happens in
    # place.
    root = scale.correction**0.5
    spread = scale.second.to(_real(scale.second.dtype)).sqrt()
    # Where it is 0, add the typical one: by signs, since comparing and filling take four times as
    # long.
    spread.add_(spread.sign().sub_(1).mul_(_tensor(-typical * root, spread))).add_(scale.eps * root)
    return torch.div(_tensor(scale.rate * root, spread), spread, out=spread)


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
        rule = known_rule(self._optimizer)
        if (entry := self._find(name)) is None:
            return _ZERO
        weight, group = entry
        scale = rule.scale(group, _local(self._optimizer.state.get(weight, {})), double(group["lr"]))
        step = _tensor(size_of(scale, self._typical_of(name) if scale.adaptive else 1.0), weight)
        return step if isinstance(self._clipped, float) and self._clipped == 1 else step * self._clipped

    def largest(self, name: str) -> Tensor | None:
        """Return what a proximal step moves a weight by at most, None where nothing bounds it."""
        if (entry := self._find(name)) is None:
            return None
        weight, group = entry
        state = self._optimizer.state.get(weight, {})
        largest = known_rule(self._optimizer).largest(group, state, double(group["lr"]))
        return None if largest is None else _tensor(largest, weight)

    def _typical_of(self, name: str) -> Tensor:
        """Return the root mean square of ``sqrt(v_hat)`` over the parameter's coordinates that had
        a gradient.

        Over those of all parameters where none of its own had one, and infinite where none at all.
        """
        if self._typical is None:
            self._typical = self._typicals()
        return self._typical.get(name, self._typical[""])

    def _typicals(self) -> dict[str, Tensor]:
        names, sums, rule = [], [], known_rule(self._optimizer)
        for name, (weight, number) in self._parameters().items():
            if state := self._optimizer.state.get(weight):
                group = self._optimizer.param_groups[number]
                scale = rule.scale(group, _local(state), double(group["lr"]))
                if (second := scale.second) is None:
                    continue
                total = second.sum(dtype=_real(second.dtype)) / scale.correction
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


def _tensor(number: Number, like: Tensor) -> Tensor:
    """Return ``number`` in the precision of steps of ``like``, on its device."""
    dtype = _real(like.dtype)
    if isinstance(number, Tensor):
        return number.to(like.device, dtype)
    return torch.full((), number, dtype=dtype, device=like.device)  # made there: a copy from the host would wait


def _real(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype.itemsize >= 4 else torch.float32
