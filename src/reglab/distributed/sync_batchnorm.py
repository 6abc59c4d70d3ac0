"""SyncBatchNorm on any device: batch statistics over all ranks."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from reglab.distributed.module_forward import Forward, replace_forwards


def synchronize_batchnorm(model: nn.Module, is_padding: Callable[[], bool]) -> Callable[[], None]:
    """Synchronize every ``nn.BatchNorm`` of the model over ranks, in place; return the undo.

    Outputs, gradients and running statistics are then those of one process on the joint batch,
    however the rows are divided; rounding apart. It takes one collective in each forward and one in
    each backward pass, on the default process group. Evaluation, and a single process, are torch's
    own. Classes and names stay as they are; what a subclass does besides normalizing (timm's has an
    activation in it) stays.

    LayerNorm, GroupNorm and InstanceNorm look at one example at a time and need nothing.
    (InstanceNorm's running statistics, where somebody switched them on, are of each rank's own
    rows.) ``nn.SyncBatchNorm`` is left to torch.

    Raises, in the forward: ValueError, as torch does, where the joint batch has a single value per
    channel.

    Args:
        is_padding: True while this rank's rows are a dummy: the rank takes part in the collectives,
            but neither the rows nor the gradients of their outputs count.
    """
    batchnorms = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
    norms = [module for module in model.modules() if isinstance(module, batchnorms)]
    return replace_forwards(norms, lambda module: _Synchronized(module, module.forward, is_padding))


def has_batchnorm(model: nn.Module) -> bool:
    """Return whether the model has a BatchNorm of any kind."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())


class _Synchronized:
    """A forward that copies along with its module.

    ``is_padding`` belongs to who trains, and is not copied.
    """

    def __init__(self, module: nn.Module, forward: Forward, is_padding: Callable[[], bool]) -> None:
        self.module = module
        self.forward = forward
        self.is_padding = is_padding

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if not (self.module.training and distributed.is_initialized() and distributed.get_world_size() > 1):
            return self.forward(*arguments, **options)
        with _JointBatch(self.is_padding()):
            return self.forward(*arguments, **options)

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Synchronized":
        return _Synchronized(copy.deepcopy(self.module, memo), copy.deepcopy(self.forward, memo), self.is_padding)


class _JointBatch(TorchFunctionMode):
    """A context in which ``functional.batch_norm`` normalizes over the joint batch of all ranks."""

    def __init__(self, is_padding: bool) -> None:
        super().__init__()
        self.is_padding = is_padding

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, arguments: tuple[Any, ...] = (), options: Any = None
    ) -> Any:
        if function is functional.batch_norm:
            return joint_batch_norm(*arguments, **(options or {}), is_padding=self.is_padding)
        return function(*arguments, **(options or {}))


def joint_batch_norm(
    inputs: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    is_padding: bool = False,
) -> Tensor:
    """Return ``functional.batch_norm`` of this rank's rows of the joint batch.

    Each rank's mean and squares around it are combined as of parts of one sample (Chan, Golub &
    LeVeque 1983, Algorithms for computing the sample variance), in at least float32: nothing large
    cancels.

    Shapes: inputs [rows, channels, ...]; the others [channels].
    """
    if not training:
        return functional.batch_norm(inputs, running_mean, running_var, weight, bias, False, momentum, eps)
    values = inputs.to(torch.promote_types(inputs.dtype, torch.float32))
    across = [axis for axis in range(inputs.dim()) if axis != 1]
    shape = [1, -1] + [1] * (inputs.dim() - 2)
    # Sliced on every rank: all then have the same graph, so that their collectives come in the same
    # order.
    counted = len(values) * (not is_padding)
    local_count = values[:counted].numel() // inputs.shape[1]
    center = values[:counted].sum(across) / max(local_count, 1)
    centered = values - center.view(shape)
    squares = centered[:counted].square().sum(across)
    counts, centers, spreads = _of_all_ranks(local_count, center, squares)
    counts = counts.detach()
    total = counts.sum()
    if local_count <= 1 and float(total) == 1:  # a look at the device that larger parts can do without
        raise ValueError(
            f"Expected more than 1 value per channel when training, got input size {inputs[:1].shape} over all ranks"
        )
    mean = (counts * centers).sum(0) / total
    spread = (spreads + counts * (centers - mean).square()).sum(0)
    _move(running_mean, mean, momentum)
    _move(running_var, spread / (total - 1), momentum)
    scale = (spread / total + eps).rsqrt()
    scale = scale if weight is None else scale * weight
    shift = (center - mean) * scale
    shift = shift if bias is None else shift + bias
    outputs = torch.addcmul(shift.view(shape), centered, scale.view(shape)).to(inputs.dtype)
    if is_padding and outputs.requires_grad:
        outputs.register_hook(_silenced)  # type: ignore[no-untyped-call]  # torch's
    return outputs


def _of_all_ranks(local_count: int, center: Tensor, squares: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return counts [ranks, 1], centers [ranks, channels] and squares [ranks, channels], the same
    bits on all ranks.
    """
    row = torch.cat([center.new_full((1,), local_count), center, squares])[None]
    # Zeros add up exactly: a sum that gathers, whose gradient is a sum too, and so on to any order.
    before = distributed.get_rank()
    rows = functional.pad(row, [0, 0, before, distributed.get_world_size() - before - 1])
    count, centers, spreads = _Sum.apply(rows).split([1, len(center), len(center)], dim=1)  # type: ignore[no-untyped-call]  # torch's
    return count, centers, spreads


class _Sum(torch.autograd.Function):
    """The sum over ranks; differentiated, the sum of the ranks' gradients."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        joint = part.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(joint)
        return joint

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _Sum.apply(*gradients)  # type: ignore[no-untyped-call]  # torch's


def _silenced(gradient: Tensor) -> Tensor:
    # Not zeros_like, which has no graph: a second differentiation would lack the collectives that
    # others wait in.
    return gradient.masked_fill(torch.ones((), dtype=torch.bool, device=gradient.device), 0)


@torch.no_grad()
def _move(running: Tensor | None, statistic: Tensor, momentum: float) -> None:
    if running is not None:
        running.copy_(torch.lerp(running.to(statistic.dtype), statistic, momentum))
