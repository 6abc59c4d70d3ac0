"""Weights of a user's module as this device holds them: whole, or its shards of FSDP2."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, distributed, nn

from reglab.core.errors import UserError
from reglab.distributed.parameters import LocalParameters
from reglab.regularizers import Cocktail

_PREFIX = "members."


def local_parameters(module: nn.Module) -> LocalParameters:
    """Return the parameters of a module that may be sharded by ``fully_shard``.

    Args:
        module: A user's.

    Raises:
        UserError: For weights that are cut in another way, or of which some are whole.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return LocalParameters(module)
    from torch.distributed.tensor import DTensor, Replicate, Shard  # late: they take a second

    weights = dict(module.named_parameters())
    sharded = {name: weight for name, weight in weights.items() if isinstance(weight, DTensor)}
    if not sharded:
        return LocalParameters(module)
    if whole := next((name for name in weights if name not in sharded), ""):
        raise UserError(
            f"{whole} is whole on each device and other weights are sharded; call fully_shard of the module that holds "
            "all of them, last"
        )
    first = next(iter(sharded.values()))
    for name, weight in sharded.items():
        *copies, shard = weight.placements
        rows = type(shard) is Shard and shard.dim == 0 and all(isinstance(each, Replicate) for each in copies)
        if not rows or weight.device_mesh != first.device_mesh:
            raise UserError(
                f"{name} is cut as {weight.placements}, and regularizers act on weights of which each device has some "
                "rows: shard by fully_shard alone, without tensor parallelism"
            )
    ranks, cut = distributed.get_world_size(), first.device_mesh.size()
    if cut != ranks:
        raise UserError(
            f"weights are sharded over {cut} of {ranks} devices, so the others train by themselves; give "
            f"ModelParallelStrategy(data_parallel_size={ranks}, tensor_parallel_size=1), whose default is another"
        )
    from reglab.distributed.fsdp import ShardedParameters

    return ShardedParameters(module, first.device_mesh)


def localize(cocktail: Cocktail, parameters: LocalParameters) -> None:
    """Let the members act on this device's shards; nothing is done where weights are whole.

    Args:
        cocktail: Which has prepared the module.
        parameters: Of the module.
    """
    if parameters.shards is None:
        return
    parts = dict(parameters.hook_target.named_parameters())
    for _, member in cocktail.named_regularizers():
        for buffer_name, name in member.shaped.items():
            buffer: Any = member.get_buffer(buffer_name)
            if hasattr(buffer, "to_local"):
                setattr(member, buffer_name, buffer.to_local())
            elif buffer.shape != parts[name].shape:
                setattr(member, buffer_name, parameters.shard_of(name, buffer))
    for name, first in parameters.first_elements().items():
        cocktail.keys.begins_at(parts[name], first)
    cocktail.bind(total=parameters.total)


def whole_state(cocktail: Cocktail, parameters: LocalParameters) -> dict[str, Any]:
    """Return the cocktail's state with whole tensors; a collective where they are sharded."""
    state, names = dict(cocktail.state_dict()), _shaped(cocktail)
    return {key: parameters.whole(names[key], value) if key in names else value for key, value in state.items()}


def local_state(state: Mapping[str, Tensor], cocktail: Cocktail, parameters: LocalParameters) -> dict[str, Any]:
    """Return this device's part of what ``whole_state`` returned.

    Args:
        state: Of a checkpoint.
        cocktail: That loads it.
        parameters: Of the module.
    """
    names = _shaped(cocktail)
    return {key: parameters.shard_of(names[key], value) if key in names else value for key, value in state.items()}


def _shaped(cocktail: Cocktail) -> dict[str, str]:
    """Return the weight that each entry of the state has the shape of, as far as it has."""
    members = cocktail.named_regularizers()
    return {f"{_PREFIX}{it}.{buffer}": name for it, member in members for buffer, name in member.shaped.items()}
