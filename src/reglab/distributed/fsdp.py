"""FSDP2: shard a model's weights and work on each rank's local shards.

After a backward pass nothing needs whole weights any more: penalties that are sums over elements,
proximal steps, decay, averages and the optimizer all work on plain tensors that share the memory of
the shards, and what must be added up over the shards is, once.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import cast

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from reglab.distributed.collectives import gathered
from reglab.distributed.module_blocks import blocks
from reglab.distributed.parameters import LocalParameters, clip_factor
from reglab.measures.weights import Whole
from reglab.regularizers import Cocktail, overrides
from reglab.regularizers.parameter_kinds import parameter_kinds


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Shard the weights of ``model`` over the last axis of ``mesh``, block by block, in place (Zhao
    et al. 2023, FSDP).

    With two axes, the first one's ranks hold copies of the same shards. A block that shares a
    weight with what is outside it is left to the whole.

    Args:
        model: Changed in place.
        mesh: One axis (shards) or two (copies, shards).
    """
    names: dict[int, list[str]] = defaultdict(list)
    for name, weight in model.named_parameters(remove_duplicate=False):
        names[id(weight)].append(name)
    for path, block in blocks(model):
        if all(name.startswith(f"{path}.") for weight in block.parameters() for name in names[id(weight)]):
            fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def local_shard(whole: Tensor, mesh: DeviceMesh) -> Tensor:
    """Return this rank's shard of a tensor, divided as by ``shard``.

    Args:
        whole: The whole tensor, ``[rows, ...]``.
        mesh: As for ``shard``.

    Returns:
        This rank's rows, maybe none.
    """
    last = mesh.ndim - 1
    lengths, rank = _lengths(whole.shape[0], mesh.size(last)), mesh.get_local_rank(last)
    first = sum(lengths[:rank])
    return whole[first : first + lengths[rank]].clone()


def _lengths(rows: int, ranks: int) -> list[int]:
    """Return how many of so many rows each rank has."""
    each = -(-rows // ranks)
    return [max(0, min(each, rows - each * rank)) for rank in range(ranks)]


class Parts:
    """Stand-in for a sharded model: ``named_parameters`` gives this rank's shards as plain
    parameters.

    Attributes:
        named_buffers: The model's, which are whole.
        kinds: Of the parameters, see ``regularizers.parameter_kinds``.
    """

    def __init__(self, model: nn.Module, parts: Mapping[str, nn.Parameter]) -> None:
        self._parts, self.kinds = parts, parameter_kinds(model)
        self.named_buffers = model.named_buffers

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        yield from self._parts.items()


class ShardedParameters(LocalParameters):
    """Parameters sharded by ``shard``: each rank has contiguous rows of each weight, maybe none."""

    in_loss = False

    def __init__(self, model: nn.Module, mesh: DeviceMesh) -> None:
        self.model = model
        self._mesh = mesh
        self._group = mesh.get_group(mesh.ndim - 1)
        self._rank, self._ranks = mesh.get_local_rank(mesh.ndim - 1), mesh.size(mesh.ndim - 1)
        self._wholes = {name: cast(DTensor, weight) for name, weight in model.named_parameters()}
        self.parts = {name: _part(weight) for name, weight in self._wholes.items()}
        self.hook_target = cast(nn.Module, Parts(model, self.parts))
        self.weights = {name: part for name, part in self.parts.items() if part.requires_grad}

    @property
    def shards(self) -> Whole:
        sizes = {name: weight.numel() for name, weight in self._wholes.items()}
        return Whole(self.total, self.largest, sizes)

    def total(self, part: Tensor) -> Tensor:
        return self._reduced(part, distributed.ReduceOp.SUM)

    def largest(self, part: Tensor) -> Tensor:
        """Return the largest of all shards' numbers, elementwise."""
        return self._reduced(part, distributed.ReduceOp.MAX)

    def _reduced(self, part: Tensor, how: distributed.ReduceOp.RedOpType) -> Tensor:
        joint = part.detach().clone()
        distributed.all_reduce(joint, op=how, group=self._group)
        return joint

    def first_elements(self) -> dict[str, int]:
        return {
            name: sum(_lengths(whole.shape[0], self._ranks)[: self._rank])
            * (whole[:1].numel() if whole.dim() > 1 else 1)
            for name, whole in self._wholes.items()
        }

    def penalty_gradients(
        self, cocktail: Cocktail, weights: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        self.weights = {name: self.parts[name] for name in weights}
        for part in self.weights.values():
            part.grad = None
        penalties = self.penalties(cocktail)
        gradients = self.gradients()
        for part in self.weights.values():
            part.grad = None
        return penalties, gradients

    def add_gradient(self, weight: Tensor, gradient: Tensor) -> None:
        whole = cast(DTensor, weight)
        if whole.grad is None:
            whole.grad = DTensor.from_local(
                gradient, whole.device_mesh, whole.placements, shape=whole.shape, stride=whole.stride()
            )
        else:
            cast(DTensor, whole.grad).to_local().add_(gradient)

    def clear(self) -> None:
        for name, part in self.weights.items():
            part.grad = self._wholes[name].grad = None

    def collect(self) -> None:
        for name, part in self.weights.items():
            gradient = self._wholes[name].grad
            if gradient is not None:
                part.grad = cast(DTensor, gradient).to_local()
                self._wholes[name].grad = None

    def penalties(self, cocktail: Cocktail) -> dict[str, Tensor]:
        separable = self._differentiated(cocktail.penalties(self.weights, separable=True), self.weights)
        if separable:
            separable = dict(zip(separable, self.total(torch.stack(list(separable.values()))).unbind(), strict=True))
        others = (member for _, member in cocktail.named_regularizers() if not member.separable)
        if not any(overrides(member, "penalty") for member in others):
            return separable
        wholes = {name: self._wholes[name] for name in self.weights}
        full = {name: whole.full_tensor() for name, whole in wholes.items()}
        return separable | self._differentiated(cocktail.penalties(full, separable=False), wholes)

    def _differentiated(self, penalties: Mapping[str, Tensor], by: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Add the gradient of ``penalties`` to that of this rank's parts, and return their
        values.
        """
        if penalties:
            total = torch.stack(list(penalties.values())).sum()
            gradients = torch.autograd.grad(total, list(by.values()), allow_unused=True)
            for name, gradient in zip(by, gradients, strict=True):
                if gradient is not None:
                    local = gradient.to_local() if isinstance(gradient, DTensor) else gradient
                    part = self.weights[name]
                    part.grad = local if part.grad is None else part.grad + local
        return {name: penalty.detach() for name, penalty in penalties.items()}

    def clip(self, max_norm: float) -> Tensor:
        gradients = list(self.gradients().values())
        local_norm = torch.nn.utils.get_total_norm(gradients)
        norm_of_all = self.total(local_norm.square()).sqrt()
        torch.nn.utils.clip_grads_with_norm_(self.weights.values(), max_norm, norm_of_all)
        return clip_factor(norm_of_all, max_norm)

    def reshard(self) -> None:
        for module in self.model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()

    def shard_of(self, name: str, whole: Tensor) -> Tensor:
        return local_shard(whole, self._mesh)

    def whole(self, name: str, part: Tensor) -> Tensor:
        return gathered(part, _lengths(self._wholes[name].shape[0], self._ranks), self._group)

    def for_checkpoint(self, name: str, part: Tensor) -> Tensor:
        whole = self.whole(name, part)
        return whole.cpu() if distributed.get_rank() == 0 else whole.new_empty(0)


def _part(weight: DTensor) -> nn.Parameter:
    return nn.Parameter(cast(DTensor, weight.detach()).to_local(), requires_grad=weight.requires_grad)
