"""The regularizer contract: hooks for penalties, proximal steps, objective, gradient, averaging."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from reglab.regularizers.keys import Keys


@dataclass(frozen=True)
class Batch:
    """One optimizer step's examples.

    Args:
        inputs: [rows, ...].
        targets: (weight, target) pairs, weight [rows] or 0-dim; their weights add up to the example
            weight: one pair, or mixup's two.
        index: int64 [rows], global example numbers, which key the draws.
    """

    inputs: Tensor
    targets: list[tuple[Tensor, Tensor]]
    index: Tensor


_UNITS: dict[tuple[torch.dtype, torch.device], Tensor] = {}


def unit_weight(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the weight 1, 0-dim, that all examples have where none is given: always this tensor,
    never changed.
    """
    if (dtype, device) not in _UNITS:
        _UNITS[dtype, device] = torch.ones((), dtype=dtype, device=device)
    return _UNITS[dtype, device]


def weighted(weight: Tensor, losses: Tensor) -> Tensor:
    """Return ``weight * losses``; by the unit weight nothing is multiplied, which gives the same
    bits.
    """
    return losses if weight is _UNITS.get((weight.dtype, weight.device)) else weight * losses


class Outcome(NamedTuple):
    """Result of an objective: 0-dim ``terms`` whose sum is the loss (``task`` is the data loss),
    and the ``outputs``.

    Args:
        targets: The (weight, target) pairs that the outputs were judged by, which mixing changes.
    """

    terms: dict[str, Tensor]
    outputs: Tensor
    targets: Sequence[tuple[Tensor, Tensor]] = ()

    @property
    def loss(self) -> Tensor:
        return torch.stack(list(self.terms.values())).sum() if len(self.terms) > 1 else next(iter(self.terms.values()))

    def plus(self, name: str, term: Tensor) -> "Outcome":
        """Return this outcome with one more term."""
        return Outcome({**self.terms, name: term}, self.outputs, self.targets)


Objective = Callable[[nn.Module, Batch], Outcome]
Gradient = Callable[..., tuple[dict[str, Tensor], Outcome]]
"""``gradient(offset=None)``: the gradient by parameter name, at the weights, perturbed by
``offset`` if given.
"""


class Regularizer(nn.Module):
    """One ingredient of a cocktail. A hook that is not overridden hands its input back.

    Real-valued hyperparameters are 0-dim float64 buffers (see ``hyper``), so that they are in the
    checkpoint and jobs which differ only in numbers can be stacked; no hook may branch in Python on
    their values. Random numbers come from ``self.keys`` alone. State in a parameter's shape is
    registered by ``register_shaped``.

    Where training is sharded, each rank holds rows of every parameter (a contiguous part of the
    first axis, perhaps none), as a plain tensor. ``on_gradient``, ``before_step``, ``on_step`` and
    ``evaluating`` see these parts alone, and so does ``penalty`` where the method is ``separable``.
    What works by element or by row needs nothing more; a sum over all elements, such as a norm's,
    goes through ``self.total``. In ``before_step``, ``on_step`` and ``evaluating``, ``model`` is
    then a stand-in whose ``named_parameters()`` gives these parts, and ``named_buffers()`` the
    model's buffers, which are whole: use nothing else of it.
    """

    neutral: ClassVar[Mapping[str, float] | None] = {"strength": 0.0}
    """Hyperparameters that leave training bit-identical to no regularizer; None where there are
    none.
    """
    stronger: ClassVar[int] = 1
    """1 where a larger strength regularizes more, -1 where a smaller one does."""
    directions: ClassVar[Mapping[str, int]] = {}
    """The same of other numbers, by name."""
    claims: ClassVar[frozenset[str]] = frozenset()
    """What only one member of a cocktail may own, such as the averaged weights."""
    tasks: ClassVar[frozenset[str] | None] = None
    """The tasks that it fits; None for all."""
    stops: ClassVar[bool] = False
    """True where it may end training early: the run then stands for its best weights, not its last.
    """
    fusable: ClassVar[bool] = True
    """False where members that differ in numbers cannot be stacked; ``why_solo`` then gives the
    reason.
    """
    why_solo: ClassVar[str] = ""
    proximal: ClassVar[bool] = False
    """True where ``on_step`` asks for step sizes, which are not known of every optimizer."""
    reads: ClassVar[Literal["batch", "outputs", "loss"]] = "batch"
    """What ``on_objective`` reads: ``loss`` where that is the outcome's loss alone, so that it acts on
    any loss that a user's ``training_step`` returns; ``outputs`` where it is the outcome's outputs
    and targets too; ``batch`` where it reads or changes the batch.
    """
    separable: ClassVar[bool] = False
    """True where the penalty is a sum over elements, or over rows: sharded training takes it of
    each rank's parts and adds these up. False (a nuclear or spectral norm): it is handed whole
    tensors.
    """

    name: str
    task: str
    keys: Keys
    mean: Callable[[Tensor], Tensor]
    total: Callable[[Tensor], Tensor]
    shaped: dict[str, str]
    statistics: dict[str, str]
    """The model's buffers that ``evaluating`` swaps beside its parameters, and in which own buffer
    their average is.
    """

    def __init__(self) -> None:
        super().__init__()
        self.shaped = {}
        self.statistics = {}
        self.bind(type(self).__name__.lower(), "classification", Keys(0))

    def bind(
        self,
        name: str,
        task: str,
        keys: Keys,
        mean: Callable[[Tensor], Tensor] | None = None,
        total: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """Tell the member its name in the cocktail, the task, where draws come from, and what other
        ranks add.

        ``mean`` averages a 0-dim loss over everything that one optimizer step sees; by default this
        is one process. ``total`` adds up, over all parts of the weights, a tensor of sums over
        elements, without a gradient; by default the weights are whole. Every rank calls it, and
        equally often: do not skip it where a part is empty.
        """
        # In __dict__, unregistered: a registered module would stand in the state dict once for each
        # member.
        self.__dict__.update(name=name, task=task, keys=keys, mean=mean or _same, total=total or _same)

    def hyper(
        self,
        *,
        minimum: float = -math.inf,
        maximum: float = math.inf,
        below: float = math.inf,
        finite: bool = True,
        **values: float,
    ) -> None:
        """Register real-valued hyperparameters as 0-dim float64 buffers.

        Raises:
            ValueError: With name, range and value, outside ``minimum <= value <= maximum`` and
                ``value < below``.
        """
        for name, value in values.items():
            try:
                number = float(value)
            except (TypeError, ValueError):
                raise ValueError(f"{name} must be a number, got {value!r}") from None
            inside = minimum <= number <= maximum and (number < below or below == math.inf)
            if not inside or (finite and not math.isfinite(number)):
                raise ValueError(f"{name} must be {_range(minimum, maximum, below, finite)}, got {value}")
            self.register_buffer(name, torch.tensor(number, dtype=torch.float64))

    def extra_repr(self) -> str:
        """Return the arguments that it was made with, numbers always and others where they are not
        the default.

        Example:
            >>> from reglab.regularizers import L1
            >>> L1(1e-3), L1(where="head.*")
            (L1(strength=0.001), L1(strength=0.0001, where='head.*'))
        """
        shown = []
        for name, parameter in inspect.signature(type(self)).parameters.items():
            value = getattr(self, name, parameter.default)
            if isinstance(value, Tensor):
                shown.append(f"{name}={value.tolist()}")
            elif value != parameter.default:
                shown.append(f"{name}={value!r}")
        return ", ".join(shown)

    def register_shaped(self, buffer_name: str, tensor: Tensor, parameter: str) -> None:
        """Register a buffer of the shape of ``parameter`` (its name): it is cut, gathered and saved
        as that one is.

        It is recorded in ``shaped``, buffer to parameter.
        """
        self.register_buffer(buffer_name, tensor)
        self.shaped[buffer_name] = parameter

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Regularizer":
        """Move buffers, never cast them: in bfloat16 a decay of 0.9999 is 1, and an average would
        never move.
        """
        for module in self.modules():
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    device = fn(torch.zeros((), device=buffer.device)).device
                    lacks_double = device.type == "mps" and buffer.dtype == torch.float64
                    module._buffers[name] = buffer.to(device, torch.float32 if lacks_double else buffer.dtype)
        return self

    def complete(self, state: dict[str, Any], prefix: str, model: Mapping[str, Tensor]) -> None:
        """Put into a state dict what this member did not keep when it was written; ``prefix`` is
        that of its keys.

        Args:
            model: The tensors of the model that the state belongs to, as far as they are known.
        """

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        self.complete(state_dict, prefix, {})
        super()._load_from_state_dict(state_dict, prefix, *others)

    def advice(self, steps: int) -> str | None:
        """Return a sentence for the user where its numbers cannot do what they say in a run of so
        many steps.
        """
        return None

    def on_model(self, model: nn.Module) -> nn.Module:
        """Change the model once, before training: surgery, parametrization.

        Never renames parameters.
        """
        return model

    def penalty(self, weights: Mapping[str, Tensor]) -> Tensor | None:
        """Return a 0-dim penalty of the weights, which arrive by name in at least float32."""
        return None

    def on_objective(self, objective: Objective) -> Objective:
        """Wrap the objective: mixing, smoothing, flooding.

        What it changes in the loss, it adds as a term.
        """
        return objective

    def on_gradient(self, gradient: Gradient) -> Gradient:
        """Wrap what computes the gradient: SAM, clipping, noise."""
        return gradient

    def before_step(self, model: nn.Module, lr: Mapping[str, Tensor]) -> None:
        """Change the weights that the gradient was taken at, just before the update: decoupled
        decay.

        Args:
            lr: The learning rate of this step, 0-dim, by parameter name; see
                ``weight_decay_fixed.schedule_factor``.
        """

    def on_step(self, model: nn.Module, step_size: Mapping[str, Tensor]) -> None:
        """Change the weights after the update: proximal step, projection, averaging.

        Args:
            step_size: The optimizer's effective step of each coordinate, by parameter name;
                broadcasts to the parameter. Where the gradient was clipped by its norm, it is
                scaled by the same factor. See ``proximal.largest_move``.
        """

    def slope_at_zero(self) -> Tensor | None:
        """Return what a gradient must exceed to move a weight away from 0, 0-dim; None where that
        is not known.

        Asked of proximal methods alone: under gradients clipped by value to less, they would solve
        another problem.
        """
        return None

    def on_validation(self, metrics: Mapping[str, Tensor]) -> Tensor | None:
        """Return a 0-dim bool, True to stop training, after each measured epoch.

        State belongs in buffers.
        """
        return None

    def evaluating(self, model: nn.Module) -> AbstractContextManager[None]:
        """Return a context in which ``model`` has the weights to be evaluated, such as averaged
        ones.
        """
        return nullcontext()


def overrides(member: Regularizer, hook: str) -> bool:
    """Return whether ``member`` does something in ``hook``.

    Args:
        member: The regularizer.
        hook: The method's name, such as ``on_step``.
    """
    return getattr(type(member), hook) is not getattr(Regularizer, hook)


def _same(value: Tensor) -> Tensor:
    return value


def _range(minimum: float, maximum: float, below: float, finite: bool) -> str:
    bounds = [f">= {minimum:g}"] if minimum > -math.inf else []
    bounds += [f"<= {maximum:g}"] if maximum < math.inf else []
    bounds += [f"< {below:g}"] if below < math.inf else []
    return " and ".join((["finite"] if finite else []) + bounds) or "a number"
