"""A fused step in thirty lines: what the contract must allow. Members are stacked, and vmap trains them at once."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional

from reglab.regularizers import Batch, Cocktail, Outcome


class Member(nn.Module):
    """One job: its model and its cocktail, called through ``do`` so that functional_call can swap all state in."""

    def __init__(self, model: nn.Module, cocktail: Cocktail) -> None:
        super().__init__()
        self.model = cocktail.prepare(model)
        self.cocktail = cocktail

    def forward(self, do):
        return do(self)


def train_fused(
    members: Sequence[Member], batches: Sequence[tuple[Tensor, Tensor, Tensor]], lr: float
) -> dict[str, Tensor]:
    """Train all members by plain SGD; a batch is (inputs, targets, index), each [members, rows, ...]."""
    base = members[0]
    weights, buffers = stack_module_state(list(members))
    state = {name: value.detach().clone() for name, value in (weights | buffers).items()}
    step = vmap(lambda own, *batch: _step(base, own, set(weights), lr, *batch))
    for batch in batches:
        state = step(state, *batch)
    return state


def _step(
    base: Member, state: dict, trained: set[str], lr: float, inputs: Tensor, targets: Tensor, index: Tensor
) -> dict:
    state = dict(state)
    batch = Batch(inputs, [(torch.ones((), dtype=inputs.dtype), targets)], index)
    forwards = []

    def loss(own: dict[str, Tensor], rest: dict[str, Tensor]):
        rest = {name: value.clone() for name, value in rest.items()}

        def objective(member: Member) -> Outcome:
            member.cocktail.keys.begin()
            member.cocktail.keys.index = index
            wrapped = member.cocktail.objective(
                lambda out, target: functional.cross_entropy(out, target, reduction="none")
            )
            outcome = wrapped(member.model, batch)
            for name, penalty in member.cocktail.penalties(dict(member.model.named_parameters())).items():
                outcome = outcome.plus(name, penalty)
            member.cocktail.keys.index = None
            return outcome

        outcome = functional_call(base, own | rest, (objective,))
        return outcome.loss, (outcome.terms, rest)

    def gradient(offset: dict[str, Tensor] | None = None):
        own = {name: state[name] for name in trained}
        rest = {name: value for name, value in state.items() if name not in trained}
        if offset is not None:
            own = {name: value + offset[name.removeprefix("model.")] for name, value in own.items()}
        slopes, (terms, moved) = grad(loss, has_aux=True)(own, rest)
        if not forwards:
            state.update(moved)
        forwards.append(1)
        return {name.removeprefix("model."): slope for name, slope in slopes.items()}, Outcome(terms, inputs)

    # A copy: on leaving, functional_call writes what it had swapped in back into the dict that it was given.
    slopes, _ = functional_call(base, dict(state), (lambda member: member.cocktail.gradient(gradient)(),))

    def update(member: Member) -> Tensor:
        named = dict(member.model.named_parameters())
        rate = {name: torch.tensor(lr, dtype=torch.float64) for name in named}
        member.cocktail.before_step(member.model, rate)
        with torch.no_grad():
            for name, weight in named.items():
                weight.sub_(lr * slopes[name])
        member.cocktail.after_step(member.model, rate)
        member.cocktail.keys.step.add_(1)
        return inputs.sum()

    functional_call(base, state, (update,))
    return state
