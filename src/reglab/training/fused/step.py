"""One optimizer step of all members at once: a function of stacked state, made by ``vmap`` over one member's step.

The member's step is plain Python over the hooks of the contract. It is traced once for each batch shape into a graph
of tensor operations, which then runs as it is or compiled: neither pays for ``vmap`` and ``grad`` at every step.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from reglab.measures import Task, example_losses
from reglab.regularizers import Batch, Outcome
from reglab.training.fused.member import Member
from reglab.training.fused.optimizers import Update
from reglab.training.fused.stack import STEP, Stack

Tensors = dict[str, Tensor]


class MemberStep:
    """What one member does in one step, on its own tensors.

    idle: weights that no loss reaches; torch.optim leaves those without a gradient alone.
    """

    def __init__(self, base: Member, task: Task, update: Update, idle: frozenset[str]) -> None:
        self._base, self._update, self._idle = base, update, idle
        self._objective = base.cocktail.objective(lambda outputs, targets: example_losses(outputs, targets, task))

    def __call__(
        self, weights: Tensors, buffers: Tensors, slots: Mapping[str, Tensors], numbers: Tensors, shared: Tensors,
        batch: tuple[Tensor, Tensor, Tensor | None, Tensor],
    ) -> tuple[Tensors, Tensors, dict[str, Tensors], Tensors]:  # fmt: skip
        """Return new weights, buffers and slots, and the terms of the loss before the step."""
        buffers = dict(buffers)
        slopes, terms = self._slopes(weights, buffers, shared, batch)
        if "clip" in numbers:
            slopes = clipped(slopes, numbers["clip"])
        state = {name: tensor.clone() for name, tensor in (weights | buffers).items()} | shared
        moved: dict[str, Tensors] = {slot: dict(tensors) for slot, tensors in slots.items()}

        def update(member: Member) -> None:
            self._move(member, slopes, moved, numbers, shared[STEP])

        with torch.no_grad():
            # functional_call writes what it had swapped in back into the dict: the new state.
            functional_call(self._base, state, (_returning(update, shared[STEP]),))
        return {name: state[name] for name in weights}, {name: state[name] for name in buffers}, moved, terms

    def _slopes(self, weights: Tensors, buffers: Tensors, shared: Tensors, batch: Any) -> tuple[Tensors, Tensors]:
        """Return the gradient by the weight's name in the model, and the terms; ``buffers`` are moved on."""
        forwards: list[int] = []

        def gradient(offset: Mapping[str, Tensor] | None = None) -> tuple[Tensors, Outcome]:
            own = weights if offset is None else {name: w + offset[_short(name)] for name, w in weights.items()}
            slopes, (outcome, after) = grad(self._loss, has_aux=True)(own, dict(buffers), shared, batch)
            if not forwards:  # only a step's first forward moves buffers
                buffers.update(after)
            forwards.append(1)
            return {_short(name): slope for name, slope in slopes.items() if name not in self._idle}, outcome

        if not self._base.cocktail.wraps_gradient:
            found, outcome = gradient()
            return found, outcome.terms

        def wrapped(member: Member) -> tuple[Tensors, Outcome]:
            return member.cocktail.gradient(gradient)()

        found, outcome = functional_call(self._base, {**weights, **buffers, **shared}, (wrapped,))
        return found, outcome.terms

    def _loss(self, weights: Tensors, buffers: Tensors, shared: Tensors, batch: Any) -> tuple[Tensor, Any]:
        after = {name: tensor.clone() for name, tensor in buffers.items()}
        inputs, targets, example_weights, index = batch
        one = torch.ones((), dtype=next(iter(weights.values())).dtype, device=inputs.device)
        examples = Batch(inputs, [(one if example_weights is None else example_weights, targets)], index)

        def whole(member: Member) -> Outcome:
            keys = member.cocktail.keys
            keys.begin()
            keys.index = index
            outcome = self._objective(member.model, examples)
            for name, penalty in member.cocktail.penalties({_short(n): w for n, w in weights.items()}).items():
                outcome = outcome.plus(name, penalty)
            keys.index = None
            return outcome

        outcome = functional_call(self._base, {**weights, **after, **shared}, (whole,))
        return outcome.loss, (Outcome(outcome.terms, outcome.outputs), after)

    def _move(self, member: Member, slopes: Tensors, slots: dict[str, Tensors], numbers: Tensors, done: Tensor) -> None:
        cocktail, named = member.cocktail, dict(member.model.named_parameters())
        rate = dict.fromkeys(slopes, numbers["lr"])
        cocktail.before_step(member.model, rate)
        sizes = {name: torch.zeros_like(numbers["lr"]) for name in map(_short, self._idle)}
        for name, slope in slopes.items():
            full = f"model.{name}"
            own = {slot: tensors[full] for slot, tensors in slots.items()}
            moved = self._update(named[name], slope, own, numbers, done)
            named[name].copy_(moved.weight)
            sizes[name] = moved.size
            for slot, tensor in moved.slots.items():
                slots[slot][full] = tensor
        cocktail.after_step(member.model, sizes)


class PackStep:
    """One step of the whole pack: changes a stack in place and returns the terms of each member's loss.

    Called as ``step(inputs)`` with the flat tensors of ``Call``; ``names`` are the terms' names once it was traced.
    """

    def __init__(self, member_step: MemberStep) -> None:
        self._member_step = member_step
        self.names: list[str] = []

    def __call__(self, stack: Stack, batch: tuple[Tensor, Tensor, Tensor | None, Tensor], own_rows: bool) -> Tensor:
        """Move ``stack`` by one step on ``batch`` and return the terms, [terms, members]."""
        axis = 0 if own_rows else None
        axes = (0, 0, 0, 0, None, tuple(None if part is None else axis for part in batch))
        run = vmap(self._member_step, in_dims=axes)
        new = run(stack.weights, stack.buffers, stack.slots, stack.numbers, stack.shared, batch)
        weights, buffers, slots, terms = new
        _overwrite(stack.weights, weights)
        _overwrite(stack.buffers, buffers)
        for slot, tensors in slots.items():
            _overwrite(stack.slots[slot], tensors)
        stack.shared[STEP].add_(1)
        self.names = list(terms)
        kind = next(iter(stack.weights.values())).dtype
        return torch.stack([term.to(kind).expand(len(stack)) for term in terms.values()])


def clipped(slopes: Mapping[str, Tensor], limit: Tensor) -> Tensors:
    """Return the gradient scaled down to the norm ``limit`` where it is longer, as ``clip_grad_norm_`` does."""
    norms = torch.stack([torch.linalg.vector_norm(slope) for slope in slopes.values()])
    scale = (limit.to(norms.dtype) / (torch.linalg.vector_norm(norms) + 1e-6)).clamp(max=1.0)
    return {name: slope * scale.to(slope.dtype) for name, slope in slopes.items()}


def idle_weights(base: Member, task: Task, batch: tuple[Tensor, Tensor, Tensor | None, Tensor]) -> frozenset[str]:
    """Return the names of the trained weights that the whole loss of ``batch`` does not reach."""
    state = {name: tensor.detach().clone() for name, tensor in [*base.named_parameters(), *base.named_buffers()]}
    trained = [name for name, weight in base.named_parameters() if weight.requires_grad]
    for name in trained:
        state[name].requires_grad_()
    shared = {name: state[name] for name in state if name not in trained}
    loss, _ = MemberStep(base, task, _no_update, frozenset())._loss({n: state[n] for n in trained}, {}, shared, batch)
    slopes = torch.autograd.grad(loss, [state[name] for name in trained], allow_unused=True)
    return frozenset(name for name, slope in zip(trained, slopes, strict=True) if slope is None)


def _no_update(*_: Any) -> Any:
    raise AssertionError("only the loss is asked for")


def _returning(do: Callable[[Member], None], value: Tensor) -> Callable[[Member], Tensor]:
    def done(member: Member) -> Tensor:
        do(member)
        return value

    return done


def _overwrite(old: Tensors, new: Mapping[str, Tensor]) -> None:
    for name, tensor in old.items():
        tensor.copy_(new[name])


def _short(name: str) -> str:
    """Return a weight's name in the model."""
    return name.removeprefix("model.")
