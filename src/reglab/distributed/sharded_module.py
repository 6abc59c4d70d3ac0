"""LightningModule that trains whole or FSDP-sharded, with whole tensors in its checkpoints."""

import copy
from collections.abc import Callable, Mapping

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from reglab.distributed.parameters import LocalParameters
from reglab.regularizers import Cocktail


class Shardable(pl.LightningModule):
    """A model beside its cocktail.

    Attributes:
        local_parameters: The weights that this device updates.
    """

    def __init__(self, model: nn.Module, cocktail: Cocktail) -> None:
        super().__init__()
        self.cocktail = cocktail
        self.model = cocktail.prepare(model)
        self.local_parameters = LocalParameters(self.model)
        self._unsharded: tuple[nn.Module, Cocktail] | None = None  # what is whole while a copy of it is sharded
        self._undo: list[Callable[[], None]] = []

    @property
    def sharded(self) -> bool:
        """Whether this rank has only a shard of the weights."""
        return self._unsharded is not None

    def change_layers(self) -> None:
        """Change layers for training (SyncBatchNorm, activation checkpointing); undone by
        ``release``.
        """

    def shard(self, mesh: DeviceMesh, device: torch.device) -> None:
        """Continue with a copy that is sharded over the last axis of ``mesh``, local shards on
        ``device``.
        """
        from reglab.distributed.fsdp import ShardedParameters, local_shard, shard  # late: it takes a second

        self._unsharded = self.model, self.cocktail
        self.model, self.cocktail = copy.deepcopy(self._unsharded)
        self.change_layers()
        for _, member in self.cocktail.named_regularizers():
            for buffer_name in member.shaped:
                setattr(member, buffer_name, local_shard(member.get_buffer(buffer_name), mesh))
        shard(self.model, mesh)  # which moves a block at a time: the whole might not fit the device
        self.to(device)  # the rest, and what Lightning calls the module's device
        self.local_parameters = local = ShardedParameters(self.model, mesh)
        for name, first in local.first_elements().items():
            self.cocktail.keys.begins_at(local.parts[name], first)

    def unshard(self) -> None:
        """Replace the sharded copies by the original model and cocktail, with the trained
        weights.
        """
        if self._unsharded is not None:
            state = self.whole(self.state_dict(), everywhere=True)
            self.model, self.cocktail = self._unsharded
            self._unsharded, self.local_parameters = None, LocalParameters(self.model)
            self.load_state_dict(state)
        self.release()

    def release(self) -> None:
        """Undo the changes to the model that were made for training."""
        while self._undo:
            self._undo.pop()()

    def snapshot(self) -> dict[str, Tensor]:
        """Return a copy of the state, of this rank's shards where it is sharded."""
        return {key: _local(value).detach().clone() for key, value in self.state_dict().items()}

    def restore(self, snapshot: Mapping[str, Tensor]) -> None:
        """Load what ``snapshot`` returned."""
        with torch.no_grad():
            for key, value in self.state_dict().items():
                _local(value).copy_(snapshot[key])

    def whole(self, state: Mapping[str, Tensor], everywhere: bool = False) -> dict[str, Tensor]:
        """Return ``state`` (the module's, or a snapshot) with whole tensors, on the CPU where it is
        sharded.

        A collective then.

        Args:
            everywhere: Also on ranks that write nothing; otherwise they get nothing.
        """
        if not self.sharded:
            return dict(state)
        names, state_dict = self._shaped(), {}
        for key, value in state.items():
            local = _local(value)
            full = self.local_parameters.whole(names[key], local) if key in names else local
            if everywhere or self.global_rank == 0:
                state_dict[key] = full.cpu()
        return state_dict

    def local_state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return this rank's shards of a whole state, as ``snapshot`` returns them."""
        if not self.sharded:
            return dict(state)
        names = self._shaped()
        parts = {
            key: self.local_parameters.shard_of(names[key], value) if key in names else value
            for key, value in state.items()
        }
        return {key: part.to(self.device) for key, part in parts.items()}

    def _shaped(self) -> dict[str, str]:
        """Return the weight that each entry of the state has the shape of, as far as it has."""
        first = {id(weight): name for name, weight in self.model.named_parameters()}
        every = self.model.named_parameters(remove_duplicate=False)  # tied weights stand under each of their names
        parameter_of = {f"model.{name}": first[id(weight)] for name, weight in every}
        for member_name, member in self.cocktail.named_regularizers():
            parameter_of |= {
                f"cocktail.members.{member_name}.{buffer_name}": name for buffer_name, name in member.shaped.items()
            }
        return parameter_of


def _local(value: Tensor) -> Tensor:
    return value.to_local() if isinstance(value, DTensor) else value
