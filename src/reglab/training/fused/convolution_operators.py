"""Custom operators for stacked convolutions: vmap rules and double backward.

A convolution is linear in the inputs and in the weight, so the gradients of it and of its two
gradients are again one of the three.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from reglab.training.fused import convolution_kernels as kernels
from reglab.training.fused.convolution_kernels import Window

_SCHEMA = "(Tensor first, Tensor second, int[] size, int[] window, str lowering) -> Tensor"


def convolve(inputs: Tensor, weight: Tensor, window: Window, lowering: str) -> Tensor:
    """Return the stacked convolution, differentiable.

    Shapes: inputs [members, rows, channels, height, width]; weight [members, outputs, channels /
    groups, *kernel].
    """
    result: Tensor = _in_graph(_channels_innermost(inputs), weight, list(weight.shape[3:]), list(window), lowering)
    return result


def _convolution(inputs: Tensor, weight: Tensor, _: Sequence[int], window: Sequence[int], lowering: str) -> Tensor:
    return kernels.convolve(inputs, weight, Window(*window), lowering)


def _weight_gradient(
    gradients: Tensor, inputs: Tensor, size: Sequence[int], window: Sequence[int], lowering: str
) -> Tensor:
    return kernels.weight_gradient(gradients, inputs, size, Window(*window), lowering)


def _input_gradient(
    gradients: Tensor, weight: Tensor, size: Sequence[int], window: Sequence[int], lowering: str
) -> Tensor:
    return kernels.input_gradient(gradients, weight, size, Window(*window), lowering)


def _convolution_shape(inputs: Tensor, weight: Tensor, size: Sequence[int], window: Sequence[int], _: str) -> Tensor:
    positions = Window(*window).outputs(inputs.shape[3:], size)
    return kernels.empty(inputs, inputs.shape[0], inputs.shape[1], weight.shape[1], positions)


def _weight_shape(gradients: Tensor, inputs: Tensor, size: Sequence[int], window: Sequence[int], _: str) -> Tensor:
    return inputs.new_empty((inputs.shape[0], gradients.shape[2], inputs.shape[2] // Window(*window).groups, *size))


def _input_shape(gradients: Tensor, weight: Tensor, size: Sequence[int], window: Sequence[int], _: str) -> Tensor:
    channels = weight.shape[2] * Window(*window).groups
    return kernels.empty(gradients, gradients.shape[0], gradients.shape[1], channels, size)


def _operator(compute: Callable[..., Tensor], shape: Callable[..., Tensor]) -> Callable[..., Tensor]:
    result = torch.library.custom_op(
        f"reglab::{compute.__name__.lstrip('_')}", compute, mutates_args=(), schema=_SCHEMA
    )
    result.register_fake(shape)

    def batched(info: Any, axes: tuple[Any, ...], first: Tensor, second: Tensor, *rest: Any) -> tuple[Tensor, int]:
        both = [
            value.expand(info.batch_size, *value.shape) if axis is None else value.movedim(axis, 0)
            for value, axis in zip((first, second), axes, strict=False)
        ]
        stacked = result(both[0].flatten(0, 1), both[1].flatten(0, 1), *rest)
        return stacked.unflatten(0, (info.batch_size, -1)), 0

    result.register_vmap(batched)
    return result


_convolve = _operator(_convolution, _convolution_shape)
_in_weight = _operator(_weight_gradient, _weight_shape)
_in_inputs = _operator(_input_gradient, _input_shape)


class _Bilinear(Function):
    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        first, second, _, ctx.window, ctx.lowering = inputs
        ctx.save_for_backward(first, second)


class _Convolution(_Bilinear):
    @staticmethod
    def forward(inputs: Tensor, weight: Tensor, size: list[int], window: list[int], lowering: str) -> Tensor:
        return _convolve(inputs, weight, size, window, lowering)

    @staticmethod
    def backward(ctx: Any, gradients: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        gradients, options = _channels_innermost(gradients), (ctx.window, ctx.lowering)
        return (
            _apply(_InputGradient, gradients, weight, inputs.shape[3:], *options) if ctx.needs_input_grad[0] else None,
            _apply(_WeightGradient, gradients, inputs, weight.shape[3:], *options) if ctx.needs_input_grad[1] else None,
            *(None, None, None),
        )


class _WeightGradient(_Bilinear):
    @staticmethod
    def forward(gradients: Tensor, inputs: Tensor, size: list[int], window: list[int], lowering: str) -> Tensor:
        return _in_weight(gradients, inputs, size, window, lowering)

    @staticmethod
    def backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor | None, ...]:
        gradients, inputs = ctx.saved_tensors
        options = ctx.window, ctx.lowering
        return (
            _apply(_Convolution, inputs, output_gradient, output_gradient.shape[3:], *options)
            if ctx.needs_input_grad[0]
            else None,
            _apply(_InputGradient, gradients, output_gradient, inputs.shape[3:], *options)
            if ctx.needs_input_grad[1]
            else None,
            *(None, None, None),
        )


class _InputGradient(_Bilinear):
    @staticmethod
    def forward(gradients: Tensor, weight: Tensor, size: list[int], window: list[int], lowering: str) -> Tensor:
        return _in_inputs(gradients, weight, size, window, lowering)

    @staticmethod
    def backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor | None, ...]:
        gradients, weight = ctx.saved_tensors
        options = ctx.window, ctx.lowering
        return (
            _apply(_Convolution, output_gradient, weight, weight.shape[3:], *options)
            if ctx.needs_input_grad[0]
            else None,
            _apply(_WeightGradient, gradients, output_gradient, weight.shape[3:], *options)
            if ctx.needs_input_grad[1]
            else None,
            *(None, None, None),
        )


def _channels_innermost(stacked: Tensor) -> Tensor:
    """Return channels-last memory, which the kernels read; the compiler fuses the copy."""
    return stacked.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)


def _apply(
    function: type[Function], first: Tensor, second: Tensor, size: Sequence[int], window: list[int], lowering: str
) -> Tensor:
    result: Tensor = function.apply(first, second, list(size), window, lowering)  # type: ignore[no-untyped-call]  # torch's
    return result


# Dynamo cannot trace an autograd function under vmap(grad); what traces after Dynamo can.
@torch.compiler.allow_in_graph  # type: ignore[untyped-decorator]  # torch's
def _in_graph(inputs: Tensor, weight: Tensor, size: list[int], window: list[int], lowering: str) -> Tensor:
    return _apply(_Convolution, inputs, weight, size, window, lowering)
