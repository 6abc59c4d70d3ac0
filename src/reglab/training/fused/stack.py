"""Stacked state of a pack: weights, buffers and optimizer state with a leading member axis."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from reglab.optimizers import FusedRule
from reglab.training.fused.member import Member, aliases

STEP, SEED = "cocktail.keys.step", "cocktail.keys.seed"


@dataclass
class Stack:
    """Tensors by name; all but ``shared`` have the member axis first.

    Args:
        weights: What is trained.
        buffers: What else a member's state dict holds.
        optimizer_state: By the state's name (such as ``exp_avg``) and weight.
        numbers: Of the optimizer, ``clip`` among them where gradients are clipped, float64
            [members], or [members, groups] where there are several param groups, on the CPU.
        step_numbers: What a step needs of them, of the same shape: computed anew before each, so
            never saved.
        shared: 0-dim, the same for all members: the step, and the seed where all have one.
    """

    weights: dict[str, Tensor]
    buffers: dict[str, Tensor]
    shared: dict[str, Tensor]
    optimizer_state: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    numbers: dict[str, Tensor] = field(default_factory=dict)
    step_numbers: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return next(iter(self.weights.values())).shape[0]

    @property
    def device(self) -> torch.device:
        return next(iter(self.weights.values())).device

    def bytes(self) -> int:
        """Return the memory that it takes."""
        return sum(tensor.nbytes for tensors in self.groups().values() for tensor in tensors.values())

    def groups(self) -> dict[str, dict[str, Tensor]]:
        """Return every dict of stacked tensors by its name."""
        named = {"weights": self.weights, "buffers": self.buffers, "numbers": self.numbers}
        return named | {f"slots.{state_name}": tensors for state_name, tensors in self.optimizer_state.items()}

    def take(self, rows: Sequence[int]) -> "Stack":
        """Return the stack of the members at ``rows``."""
        index = torch.tensor(list(rows))
        device_index = index.to(self.device)

        def taken(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: tensor.index_select(0, device_index) for name, tensor in tensors.items()}

        optimizer_state = {state_name: taken(tensors) for state_name, tensors in self.optimizer_state.items()}
        numbers = {name: number.index_select(0, index) for name, number in self.numbers.items()}
        return Stack(
            taken(self.weights), taken(self.buffers), self.shared, optimizer_state, numbers, taken(self.step_numbers)
        )

    def to(self, device: torch.device) -> "Stack":
        """Return the stack on ``device``."""

        def moved(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: tensor.to(device) for name, tensor in tensors.items()}

        optimizer_state = {state_name: moved(tensors) for state_name, tensors in self.optimizer_state.items()}
        return Stack(
            moved(self.weights),
            moved(self.buffers),
            moved(self.shared),
            optimizer_state,
            self.numbers,
            moved(self.step_numbers),
        )

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        return {**self.groups(), "shared": self.shared}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take over a state of as many members; the tensors stay the same objects.

        What an older state does not hold stays as the jobs' settings have it.
        """
        for name, tensors in self.state_dict().items():
            for key, tensor in tensors.items():
                if name != "numbers" or key in state[name]:
                    tensor.copy_(state[name][key])

    def clone(self) -> "Stack":
        """Return a copy that shares no memory."""
        copy = self.take(range(len(self)))
        copy.shared = {name: tensor.clone() for name, tensor in self.shared.items()}
        return copy


def stack(
    members: Sequence[Member],
    numbers: Sequence[Sequence[Mapping[str, float]]],
    rule: FusedRule,
    clips: Sequence[float | None],
) -> Stack:
    """Return the joint state of ``members``: each one's initial values, and zeros for the
    optimizer's state.

    Args:
        members: Of the pack.
        numbers: Of each member's param groups.
        rule: The update of all of them.
        clips: The largest gradient norm of each member, or None.
    """
    trained = {name for name, weight in members[0].named_parameters() if weight.requires_grad}
    tensors_of_member = [dict([*member.named_parameters(), *member.named_buffers()]) for member in members]
    joint = {
        name: torch.stack([tensors[name].detach() for tensors in tensors_of_member]) for name in tensors_of_member[0]
    }
    weights = {name: tensor for name, tensor in joint.items() if name in trained}
    seeds = joint[SEED]
    shared = {STEP: joint.pop(STEP)[0].clone()}
    if bool((seeds == seeds[0]).all()):
        shared[SEED] = joint.pop(SEED)[0].clone()
    buffers = {name: tensor for name, tensor in joint.items() if name not in trained}
    joint_numbers = {key: by_member([[group[key] for group in groups] for groups in numbers]) for key in numbers[0][0]}
    if clips[0] is not None:
        joint_numbers["clip"] = by_member([[clip] * len(numbers[0]) for clip in clips])
    optimizer_state = {
        state_name: {name: torch.zeros_like(weight) for name, weight in weights.items()}
        for state_name in rule.state_names
    }
    for state_name, number in rule.initial.items():
        first = joint_numbers[number].reshape(len(members), -1)[:, 0]
        for tensor in optimizer_state[state_name].values():
            tensor.copy_(first.reshape(-1, *[1] * (tensor.dim() - 1)))
    return Stack(weights, buffers, shared, optimizer_state, joint_numbers)


def by_member(values: Sequence[Sequence[float | None]]) -> Tensor:
    """Return numbers of members and their param groups, float64 [members], or [members, groups]
    where there are several.
    """
    table = torch.tensor(values, dtype=torch.float64)
    return table[:, 0] if table.shape[1] == 1 else table


def member_state(stacked: Stack, row: int, base: Member) -> dict[str, Tensor]:
    """Return the state dict that the member at ``row`` would have alone, on the CPU.

    Args:
        stacked: The state of all members.
        row: Of the member.
        base: Any member, for its names.

    Returns:
        State dict on the CPU.
    """
    joint = stacked.weights | stacked.buffers
    state = {}
    for name, first in aliases(base).items():
        tensor = joint[first][row] if first in joint else stacked.shared[first]
        state[name] = tensor.detach().cpu().clone()
    return state


def torch_optimizer_state(
    stacked: Stack, row: int, rule: FusedRule, order: Sequence[str]
) -> dict[int, dict[str, Tensor]]:
    """Return the member's optimizer state as ``torch.optim`` keeps it: by the weight's number.

    Args:
        stacked: The state of all members.
        row: Of the member.
        rule: Of the optimizer.
        order: The weights, as the optimizer numbers them.

    Returns:
        State by the weight's number.
    """
    numbers = {name: float(number[row].reshape(-1)[0]) for name, number in stacked.numbers.items()}
    counts = rule.count(numbers, int(stacked.shared[STEP]))
    state: dict[int, dict[str, Tensor]] = {}
    for number, name in enumerate(order):
        state[number] = {
            state_name: tensors[name][row].cpu().clone() for state_name, tensors in stacked.optimizer_state.items()
        }
        state[number] |= {key: torch.tensor(value, dtype=torch.float32) for key, value in counts.items()}
    return state
