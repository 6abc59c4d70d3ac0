"""One optimizer step of a pack: ``vmap`` over one member's step, on stacked state.

The member's step is plain Python over the hooks of the contract. It is traced once for each batch
shape into a graph of tensor operations, which then runs as it is or compiled: neither pays for
``vmap`` and ``grad`` at every step.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from reglab.measures import example_losses
from reglab.optimizers import FusedRule
from reglab.regularizers import Batch, Outcome
from reglab.tasks import Task
from reglab.training.fused.member import Member
from reglab.training.fused.optimizers import GroupNumbers, MemberLearningRates, MemberStepSizes
from reglab.training.fused.stack import SEED, STEP, Stack

Tensors = dict[str, Tensor]


class MemberStep:
    """One member's optimizer step, on its own tensors.

    Args:
        rule: Of the optimizer.
        inspection: What ``inspect_loss`` returned.
        groups: The number of each weight's param group; empty where there is one.
    """

    def __init__(
        self,
        base: Member,
        task: Task | str,
        rule: FusedRule,
        inspection: "LossInspection",
        groups: Mapping[str, int] | None = None,
    ) -> None:
        self._base, self._rule, self._unreached, self._mutated = base, rule, inspection.unreached, inspection.mutated
        self._groups = groups or {}
        # Not swapped in where selections are made: inside functional_call a frozen weight looks
        # like a trained one.
        self._frozen = frozen(base)
        self._objective = base.cocktail.objective(lambda outputs, targets: example_losses(outputs, targets, task))

    def __call__(
        self,
        weights: Tensors,
        buffers: Tensors,
        optimizer_state: Mapping[str, Tensors],
        numbers: Tensors,
        shared: Tensors,
        batch: tuple[Tensor, Tensor, Tensor | None, Tensor],
    ) -> Tensors:
        """Update weights, buffers and optimizer state in place, and return the terms of the loss
        before the step.

        numbers: of this step, as the rule computes them, 0-dim each, or [groups].
        """
        gradients, terms, after = self._gradients(weights, buffers, shared, batch)
        scale = None
        if "clip" in numbers:
            gradients, scale = clipped(gradients, numbers["clip"].reshape(-1)[0])
        with torch.no_grad():
            for name, tensor in after.items():
                buffers[name].copy_(tensor)
            state = {**weights, **{n: t for n, t in buffers.items() if n not in self._frozen}, **shared}
            functional_call(
                self._base,
                state,
                (_Update(self._rule, self._unreached, self._groups, gradients, optimizer_state, numbers, scale),),
            )
        return terms

    def _gradients(
        self, weights: Tensors, buffers: Tensors, shared: Tensors, batch: Any
    ) -> tuple[Tensors, Tensors, Tensors]:
        """Return the gradient by the weight's name in the model, the terms, and the buffers that
        the forward changed.
        """
        moved: Tensors = {}

        def gradient(offset: Mapping[str, Tensor] | None = None) -> tuple[Tensors, Outcome]:
            perturbed_weights = (
                weights if offset is None else {n: _perturbed(w, offset.get(_short(n))) for n, w in weights.items()}
            )
            gradients, (outcome, after) = grad(self._loss, has_aux=True)(
                perturbed_weights, {**buffers, **moved}, shared, batch
            )
            if not moved:  # only a step's first forward moves buffers
                moved.update({name: after[name] for name in self._mutated})
            return {_short(name): value for name, value in gradients.items() if name not in self._unreached}, outcome

        if not self._base.cocktail.wraps_gradient:
            result, outcome = gradient()
            return result, outcome.terms, moved

        def wrapped(member: Member) -> tuple[Tensors, Outcome]:
            return member.cocktail.gradient(gradient)()

        result, outcome = functional_call(self._base, {**weights, **buffers, **shared}, (wrapped,))
        return result, outcome.terms, moved

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


@dataclass(frozen=True)
class _Update:
    """Applies the cocktail's and the optimizer's update to the member that it is called with.

    clipped: what the gradient was multiplied by; None without clipping.
    """

    rule: FusedRule
    unreached: frozenset[str]
    groups: Mapping[str, int]
    gradients: Tensors
    optimizer_state: Mapping[str, Tensors]
    numbers: Tensors
    clipped: Tensor | None

    def __call__(self, member: Member) -> Tensor:
        cocktail, named, done = member.cocktail, dict(member.model.named_parameters()), member.cocktail.keys.step
        dtype = next(iter(named.values())).dtype
        numbers = {name: number.to(dtype) for name, number in self.numbers.items()}
        names = [*self.gradients, *(_short(name) for name in self.unreached)]
        cocktail.before_step(member.model, MemberLearningRates(GroupNumbers(self.numbers, self.groups), names))
        state = {
            name: {state_name: tensors[f"model.{name}"] for state_name, tensors in self.optimizer_state.items()}
            for name in names
        }
        by_group = GroupNumbers(numbers, self.groups)
        for name, gradient in self.gradients.items():
            self.rule.update(named[name], gradient, state[name], by_group[name])
        cocktail.after_step(member.model, MemberStepSizes(self.rule, state, by_group, self.clipped))
        return done  # functional_call wants an answer


class PackStep:
    """One step of the whole pack: changes a stack in place and returns the terms of each member's
    loss.

    Attributes:
        names: Of the terms, once it was traced.
    """

    def __init__(self, member_step: MemberStep) -> None:
        self._member_step = member_step
        self.names: list[str] = []

    def __call__(self, stack: Stack, batch: tuple[Tensor, Tensor, Tensor | None, Tensor], own_rows: bool) -> Tensor:
        """Update ``stack`` by one step on ``batch`` and return the terms, [terms, members]."""
        axis = 0 if own_rows else None
        axes = (0, 0, 0, 0, None, tuple(None if part is None else axis for part in batch))
        run = vmap(self._member_step, in_dims=axes)
        terms = run(stack.weights, stack.buffers, stack.optimizer_state, stack.step_numbers, stack.shared, batch)
        stack.shared[STEP].add_(1)
        self.names = list(terms)
        dtype = next(iter(stack.weights.values())).dtype
        return torch.stack([term.to(dtype).expand(len(stack)) for term in terms.values()])


def clipped(gradients: Mapping[str, Tensor], limit: Tensor) -> tuple[Tensors, Tensor]:
    """Return the gradient scaled down to the norm ``limit`` where it is longer, and the factor:
    ``clip_grad_norm_``.

    Args:
        gradients: By name.
        limit: The largest norm, 0-dim.

    Returns:
        The clipped gradients, and the factor, 0-dim.
    """
    norms = torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients.values()])
    scale = (limit.to(norms.dtype) / (torch.linalg.vector_norm(norms) + 1e-6)).clamp(max=1.0)
    return {name: gradient * scale.to(gradient.dtype) for name, gradient in gradients.items()}, scale


class LossInspection(NamedTuple):
    """Which weights get no gradient, and which buffers a forward pass writes.

    Args:
        unreached: Trained weights that no loss reaches; torch.optim leaves those without a gradient
            alone.
        mutated: Buffers that the forward pass writes, such as BatchNorm's statistics.
    """

    unreached: frozenset[str] = frozenset()
    mutated: frozenset[str] = frozenset()


def inspect_loss(
    base: Member, task: Task | str, rule: FusedRule, batch: tuple[Tensor, Tensor, Tensor | None, Tensor]
) -> LossInspection:
    """Evaluate one member's whole loss on ``batch``, on copies, and return what it reaches and
    mutates.

    Args:
        base: The member.
        task: Which decides the loss.
        rule: Of the optimizer.
        batch: Inputs, targets, weights and index.
    """
    state = {name: tensor.detach().clone() for name, tensor in [*base.named_parameters(), *base.named_buffers()]}
    trained = {name: state[name].requires_grad_() for name, weight in base.named_parameters() if weight.requires_grad}
    buffers = {name: tensor for name, tensor in state.items() if name not in trained and name not in (STEP, SEED)}
    shared = {name: state[name] for name in (STEP, SEED)}
    loss, (_, after) = MemberStep(base, task, rule, LossInspection())._loss(trained, buffers, shared, batch)
    gradients = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
    unreached = frozenset(name for name, gradient in zip(trained, gradients, strict=True) if gradient is None)
    # Those of the model count in any case: BatchNorm moves its statistics without a trace in the
    # version.
    moved = (name for name, tensor in after.items() if name.startswith("model.") or tensor._version)
    return LossInspection(unreached, frozenset(moved))


def frozen(base: Member) -> frozenset[str]:
    """Return the names of the weights that are not trained."""
    return frozenset(name for name, weight in base.named_parameters() if not weight.requires_grad)


def _perturbed(weight: Tensor, offset: Tensor | None) -> Tensor:
    return weight if offset is None else weight + offset


def _short(name: str) -> str:
    """Return a weight's name in the model."""
    return name.removeprefix("model.")
