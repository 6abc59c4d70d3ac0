"""Batch normalization written out, so that vmap keeps the members' layout and the compiler fuses it."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def lower_normalization(model: nn.Module) -> None:
    """Make each ``BatchNorm1d`` and ``BatchNorm2d`` of the model compute by plain operations; in place.

    ``y = (x - mean) / sqrt(var + eps) * weight + bias`` over rows and positions; the running statistics move as the
    library's. vmap would fold the members into the channels, which copies what a convolution hands on.

    Subclasses of the two stay as they are. Parameters, buffers, their names, hooks and copies too.
    """
    for module in model.modules():
        if type(module) is nn.BatchNorm1d:
            module.__class__ = _BatchNorm1d
        elif type(module) is nn.BatchNorm2d:
            module.__class__ = _BatchNorm2d


def normalize(
    inputs: Tensor, mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """Return ``(inputs - mean) / sqrt(variance + eps) * weight + bias`` for each channel.

    Shapes: inputs [rows, channels, *positions], everything else [channels].
    """
    shape = (-1, *[1] * (inputs.dim() - 2))
    scale = torch.rsqrt(variance + eps)
    if weight is not None:
        scale = scale * weight
    outputs = (inputs - mean.view(shape)) * scale.view(shape)
    return outputs if bias is None else outputs + bias.view(shape)


class _Plain(_BatchNorm):
    def forward(self, inputs: Tensor) -> Tensor:
        self._check_input_dim(inputs)  # type: ignore[no-untyped-call]
        if not self.training and self.running_mean is not None:
            statistics = cast("tuple[Tensor, Tensor]", (self.running_mean, self.running_var))
            return normalize(inputs, *statistics, self.weight, self.bias, self.eps)
        axes = [0, *range(2, inputs.dim())]
        count = inputs.numel() // inputs.shape[1]
        if self.training and count == 1:
            raise ValueError(f"Expected more than 1 value per channel when training, got input size {inputs.shape}")
        variance, mean = torch.var_mean(inputs, axes, correction=0)
        if self.training and self.running_mean is not None:
            self._move(mean.detach(), variance.detach() * (count / (count - 1)))
        return normalize(inputs, mean, variance, self.weight, self.bias, self.eps)

    def _move(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics; without a momentum they are the averages over all batches so far."""
        running_mean, running_var, batches = cast(
            "tuple[Tensor, Tensor, Tensor]", (self.running_mean, self.running_var, self.num_batches_tracked)
        )
        batches.add_(1)
        share = self.momentum if self.momentum is not None else 1 / batches
        running_mean.add_((mean - running_mean) * share)
        running_var.add_((variance - running_var) * share)


class _BatchNorm1d(_Plain, nn.BatchNorm1d):
    pass


class _BatchNorm2d(_Plain, nn.BatchNorm2d):
    pass
