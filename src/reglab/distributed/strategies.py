"""Lightning strategies: DDP, or FSDP2 sharding; others are refused."""

import atexit
import inspect
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy, SingleDeviceStrategy, Strategy
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, distributed
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from reglab.core.errors import UserError, nearest
from reglab.optimizers import rule_for

_OURS = ("auto", "ddp", "ddp_find_unused_parameters_true", "fsdp")
HALF_SCALED = ("16-mixed", "16", 16)
DOUBLE = ("64-true", "64", 64)
_STARTS_PROCESSES = ("ddp_spawn", "ddp_fork", "ddp_notebook")


class Sharded(ModelParallelStrategy):
    """Shards the weights over all ranks, or over groups of ``shards`` ranks, by FSDP2.

    The module that is trained has ``shard(mesh)`` and handles its parts by itself. Checkpoints hold
    whole tensors, one gathered at a time, so they are those of any other strategy: a run can be
    resumed on any number of devices.
    """

    def __init__(self, shards: int | None = None) -> None:
        super().__init__(save_distributed_checkpoint=False)
        self.shards = shards

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        return False  # into the whole model, before it is cut

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True

    def mesh(self) -> DeviceMesh:
        """Return the ranks in one axis, or in two: copies of the weights, and the shards
        of each.
        """
        ranks = self.world_size
        if self.shards is None or self.shards == ranks:
            return init_device_mesh(self.root_device.type, (ranks,))
        if ranks % self.shards:
            raise UserError(f"trainer.shards={self.shards} does not divide the {ranks} devices")
        return init_device_mesh(
            self.root_device.type, (ranks // self.shards, self.shards), mesh_dim_names=("copies", "shards")
        )

    def setup(self, trainer: "pl.Trainer") -> None:
        """Move the module to this rank's device, shard it, and make its optimizer."""
        assert self.accelerator is not None
        assert self.model is not None
        self.accelerator.setup(trainer)
        self.model = self.precision_plugin.convert_module(self.model)
        self._module.shard(self.mesh(), self.root_device)
        self.barrier()
        if trainer.state.fn == TrainerFn.FITTING:
            self.setup_optimizers(trainer)
        self.setup_precision_plugin()

    @property
    def _module(self) -> Any:
        """The module, which is ours: see ``Solo.shard``."""
        return self.lightning_module

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return the module's state with whole tensors; nothing on ranks that do not write it."""
        state: dict[str, Any] = self._module.whole(self._module.state_dict())
        return state if self.is_global_zero else {}

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Load whole tensors into the module before it is sharded."""
        self._module.load_state_dict(checkpoint["state_dict"], strict=strict)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint on every rank."""
        return dict(self.checkpoint_io.load_checkpoint(checkpoint_path, weights_only=weights_only))

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return the optimizer's state with whole tensors. A collective."""
        plain = optimizer._optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        return self._mapped(plain, plain.state_dict(), self._module.local_parameters.for_checkpoint)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Load this rank's parts of the whole tensors."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            optimizer.load_state_dict(self._mapped(optimizer, state, self._module.local_parameters.shard_of))

    def _mapped(self, optimizer: Optimizer, state: Mapping[str, Any], change: Any) -> dict[str, Any]:
        """Return an optimizer's state with ``change(name, tensor)`` of each tensor in the shape of
        a weight, which the optimizer numbers by its param groups.
        """
        name_of = {id(weight): name for name, weight in self._module.local_parameters.weights.items()}
        names = [name_of[id(weight)] for group in optimizer.param_groups for weight in group["params"]]
        mapped = {
            index: {
                key: change(names[index], value) if isinstance(value, Tensor) and value.dim() else value
                for key, value in entries.items()
            }
            for index, entries in state["state"].items()
        }
        return {**state, "state": mapped}


def trainer_arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``pytorch_lightning.Trainer``, with the strategy built.

    Raises:
        UserError: For one unknown.
    """
    arguments = dict(settings)
    shards = arguments.pop("shards", None)
    if shards is not None and (not isinstance(shards, int) or isinstance(shards, bool) or shards < 1):
        raise UserError(f"trainer.shards must be null (all devices) or an integer >= 1, got {shards!r}")
    wanted = arguments.get("strategy", "auto")
    if shards is not None and wanted != "fsdp":
        raise UserError(f"trainer.shards={shards} needs trainer.strategy=fsdp; add it, or leave shards out")
    if wanted in _STARTS_PROCESSES:
        raise UserError(f"trainer.strategy={wanted} is for notebooks (reglab.fit); here: trainer.strategy=ddp")
    if isinstance(wanted, str):
        if wanted not in _OURS:
            raise UserError(
                f"trainer.strategy={wanted} is not known to train with regularizers; {nearest(wanted, _OURS)}"
            )
        if wanted == "fsdp":
            arguments["strategy"] = Sharded(shards)
            if arguments.get("precision") in HALF_SCALED:
                raise UserError(
                    "trainer.precision=16-mixed does not work with trainer.strategy=fsdp; use "
                    "trainer.precision=bf16-mixed"
                )
            if arguments.get("precision") in DOUBLE:  # Lightning knows no such plugin here, and none is needed: the
                arguments["precision"] = "32-true"  # model is in double precision already, see ``experiment.fit``
    elif not isinstance(wanted, (DDPStrategy, SingleDeviceStrategy)):
        raise UserError(f"trainer.strategy={type(wanted).__name__} is not known to train with regularizers; use ddp")
    return arguments


def disable_buffer_broadcast(strategy: Strategy) -> None:
    """Disable DDP's buffer broadcast: buffers, averages included, are equal on all ranks."""
    if isinstance(strategy, DDPStrategy):
        known = inspect.signature(DistributedDataParallel).parameters
        option = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # before torch 2.13
        strategy._ddp_kwargs.setdefault(option, False)


def destroy_group_at_exit() -> None:
    """Destroy torch's process group before Python ends, as Lightning does for NCCL alone.

    Threads of a gloo group hold tensors; that they release them while Python ends aborts the process
    now and then (pytorch/pytorch#179291), and a training that is finished would count as failed.
    """
    atexit.unregister(_destroy_group)
    atexit.register(_destroy_group)


def _destroy_group() -> None:
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def check_sharding(model: torch.nn.Module, optimizer: Optimizer) -> None:
    """Raise UserError for weights that cannot be sharded, or an optimizer that is not elementwise.

    Args:
        model: Whose weights are to be sharded.
        optimizer: Of the type that trains it.
    """
    rule = rule_for(type(optimizer))
    if rule is None or not rule.by_element:
        raise UserError(
            f"trainer.strategy=fsdp: {type(optimizer).__name__} may need whole weights, and each device holds a shard "
            "of them; use trainer.strategy=ddp, or another optimizer such as Adam"
        )
    for name, weight in model.named_parameters():
        if weight.dim() == 0:
            raise UserError(f"trainer.strategy=fsdp shards the first axis of each weight, and {name} has none; use ddp")
