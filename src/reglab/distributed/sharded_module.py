"""A module that trains whole or, as a copy whose weights are cut, by parts; its state can be had both ways."""

import copy
from collections.abc import Callable, Mapping

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from reglab.distributed.parameters import Body
from reglab.regularizers import Cocktail


class Shardable(pl.LightningModule):
    """A model beside its cocktail. body: the weights as they are moved on this device."""

    def __init__(self, model: nn.Module, cocktail: Cocktail) -> None:
        super().__init__()
        self.cocktail = cocktail
        self.model = cocktail.prepare(model)
        self.body = Body(self.model)
        self._given: tuple[nn.Module, Cocktail] | None = None  # what is whole while a copy of it is sharded
        self._undo: list[Callable[[], None]] = []

    @property
    def sharded(self) -> bool:
        """Whether this rank has a part of the weights alone."""
        return self._given is not None

    def change_layers(self) -> None:
        """Let the layers do what several ranks, or little memory, want of them; noted in ``_undo``."""

    def shard(self, mesh: DeviceMesh, device: torch.device) -> None:
        """Go on with a copy whose weights are cut over the last axis of ``mesh``, each rank's part on ``device``."""
        from reglab.distributed.fsdp import ShardedBody, cut, shard  # late: it takes a second

        self._given = self.model, self.cocktail
        self.model, self.cocktail = copy.deepcopy(self._given)
        self.change_layers()
        for _, member in self.cocktail.named_regularizers():
            for slot in member.shaped:
                setattr(member, slot, cut(member.get_buffer(slot), mesh))
        shard(self.model, mesh)  # which moves a block at a time: the whole might not fit the device
        self.to(device)  # the rest, and what Lightning calls the module's device
        self.body = body = ShardedBody(self.model, mesh)
        for name, first in body.first_elements().items():
            self.cocktail.keys.begins_at(body.parts[name], first)

    def let_go(self) -> None:
        """Leave model and cocktail as they were given, with the weights that they have come to."""
        if self._given is not None:
            state = self.whole(self.state_dict(), everywhere=True)
            self.model, self.cocktail = self._given
            self._given, self.body = None, Body(self.model)
            self.load_state_dict(state)
        self.release()

    def release(self) -> None:
        """Take out what was put in for training."""
        while self._undo:
            self._undo.pop()()

    def snapshot(self) -> dict[str, Tensor]:
        """Return copies of the state, of this rank's parts where it is sharded."""
        return {key: _local(value).detach().clone() for key, value in self.state_dict().items()}

    def restore(self, snapshot: Mapping[str, Tensor]) -> None:
        """Load what ``snapshot`` returned."""
        with torch.no_grad():
            for key, value in self.state_dict().items():
                _local(value).copy_(snapshot[key])

    def whole(self, state: Mapping[str, Tensor], everywhere: bool = False) -> dict[str, Tensor]:
        """Return ``state`` (the module's, or a snapshot) with whole tensors, on the CPU where it is sharded.

        A collective then. everywhere: also on ranks that write nothing; otherwise they get nothing.
        """
        if not self.sharded:
            return dict(state)
        names, found = self._shaped(), {}
        for key, value in state.items():
            own = _local(value)
            full = self.body.whole(names[key], own) if key in names else own
            if everywhere or self.global_rank == 0:
                found[key] = full.cpu()
        return found

    def cut(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return this rank's part of a whole state, as ``snapshot`` gives it."""
        if not self.sharded:
            return dict(state)
        names = self._shaped()
        parts = {key: self.body.cut(names[key], value) if key in names else value for key, value in state.items()}
        return {key: part.to(self.device) for key, part in parts.items()}

    def _shaped(self) -> dict[str, str]:
        """Return the weight that each entry of the state has the shape of, as far as it has."""
        first = {id(weight): name for name, weight in self.model.named_parameters()}
        every = self.model.named_parameters(remove_duplicate=False)  # tied weights stand under each of their names
        found = {f"model.{name}": first[id(weight)] for name, weight in every}
        for place, member in self.cocktail.named_regularizers():
            found |= {f"cocktail.members.{place}.{slot}": name for slot, name in member.shaped.items()}
        return found


def _local(value: Tensor) -> Tensor:
    return value.to_local() if isinstance(value, DTensor) else value
