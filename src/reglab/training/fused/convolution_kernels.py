"""Batched convolution kernels, channels last, for inputs [members, rows, channels, height, width].

Two lowerings: ``unfold`` (patches gathered, then one batched matrix product) and ``loop`` (the
library's convolution, member after member).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

CHUNK = 2**22  # elements of patches at a time: larger ones leave the cache before the product reads them


class Window(NamedTuple):
    """How a kernel moves over the positions: vertically (y) and horizontally (x).

    Flat, as operators want it.
    """

    stride_y: int
    stride_x: int
    padding_y: int
    padding_x: int
    dilation_y: int
    dilation_x: int
    groups: int

    @property
    def stride(self) -> tuple[int, int]:
        return self.stride_y, self.stride_x

    @property
    def padding(self) -> tuple[int, int]:
        return self.padding_y, self.padding_x

    @property
    def dilation(self) -> tuple[int, int]:
        return self.dilation_y, self.dilation_x

    def outputs(self, size: Sequence[int], kernel: Sequence[int]) -> list[int]:
        """Return the number of output positions,
        ``(size + 2 padding - dilation (kernel - 1) - 1) // stride + 1``.
        """
        axes = zip(size, kernel, self.stride, self.padding, self.dilation, strict=True)
        return [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in axes]


def convolve(inputs: Tensor, weight: Tensor, window: Window, lowering: str, chunk: int = CHUNK) -> Tensor:
    """Return each member's convolution.

    Shapes: inputs [members, rows, channels, height, width]; weight [members, outputs, channels /
    groups, *kernel].

    Args:
        inputs: ``[members, rows, channels, height, width]``.
        weight: ``[members, outputs, channels / groups, *kernel]``.
        window: Stride, padding, dilation and groups.
        lowering: ``unfold`` or ``loop``.
        chunk: Elements of patches at a time; one member's at least.

    Returns:
        ``[members, rows, outputs, height, width]``.
    """
    members, rows = inputs.shape[:2]
    positions, kernel = window.outputs(inputs.shape[3:], weight.shape[3:]), weight.shape[3:]
    result = empty(inputs, members, rows, weight.shape[1], positions)
    if lowering == "loop":
        for member_result, member_inputs, member_weight in zip(result, inputs, weight, strict=True):
            member_result.copy_(
                functional.conv2d(
                    _nhwc(member_inputs),
                    member_weight,
                    None,
                    window.stride,
                    window.padding,
                    window.dilation,
                    window.groups,
                )
            )
        return result
    for part in _parts(members, rows * positions[0] * positions[1] * weight[0, 0].numel() * window.groups, chunk):
        factors = _patches(inputs[part], kernel, window), _matrices(weight[part], window.groups).mT
        if window.groups == 1:
            torch.bmm(*factors, out=_rows(result[part], 1))  # a view, and no copy: the channels of all groups are one
        else:
            _grouped(result[part], window.groups).copy_(_split(torch.bmm(*factors), rows, positions, window.groups))
    return result


def weight_gradient(
    gradients: Tensor, inputs: Tensor, kernel: Sequence[int], window: Window, lowering: str, chunk: int = CHUNK
) -> Tensor:
    """Return the gradient of ``sum(gradients * convolve(inputs, weight))`` in the weight, which it
    does not depend on.

    Args:
        gradients: Of the outputs.
        inputs: ``[members, rows, channels, height, width]``.
        kernel: Its size.
        window: Stride, padding, dilation and groups.
        lowering: ``unfold`` or ``loop``.
        chunk: Elements of patches at a time; one member's at least.

    Returns:
        ``[members, outputs, channels / groups, *kernel]``.
    """
    members, rows, channels = inputs.shape[:3]
    outputs, positions = gradients.shape[2], gradients.shape[3:]
    result = inputs.new_empty((members, outputs, channels // window.groups, *kernel))
    if lowering == "loop":
        for member_result, gradient, member_inputs in zip(result, gradients, inputs, strict=True):
            member_result.copy_(_backward(gradient, member_inputs, member_result, window, (False, True))[1])
        return result
    for part in _parts(members, rows * positions[0] * positions[1] * result[0, 0].numel() * window.groups, chunk):
        patches = _patches(inputs[part], kernel, window)
        product = torch.bmm(_rows(gradients[part], window.groups).mT, patches)
        result[part].copy_(product.view(-1, outputs, *kernel, result.shape[2]).permute(0, 1, 4, 2, 3))
    return result


def input_gradient(
    gradients: Tensor, weight: Tensor, size: Sequence[int], window: Window, lowering: str, chunk: int = CHUNK
) -> Tensor:
    """Return the gradient of ``sum(gradients * convolve(inputs, weight))`` in the inputs, whose
    positions are ``size``.

    Args:
        gradients: Of the outputs.
        weight: ``[members, outputs, channels / groups, *kernel]``.
        size: Height and width of the inputs.
        window: Stride, padding, dilation and groups.
        lowering: ``unfold`` or ``loop``.
        chunk: Elements of patches at a time; one member's at least.

    Returns:
        ``[members, rows, channels, *size]``.
    """
    members, rows = gradients.shape[:2]
    result = empty(gradients, members, rows, weight.shape[2] * window.groups, size)
    if lowering == "loop":
        for member_result, gradient, member_weight in zip(result, gradients, weight, strict=True):
            member_result.copy_(_backward(gradient, member_result, member_weight, window, (True, False))[0])
        return result
    kernel, positions = weight.shape[3:], gradients.shape[3:]
    for part in _parts(members, rows * positions[0] * positions[1] * weight[0, 0].numel() * window.groups, chunk):
        patches = torch.bmm(_rows(gradients[part], window.groups), _matrices(weight[part], window.groups))
        result[part].copy_(_folded(_split(patches, rows, positions, window.groups), size, kernel, window))
    return result


def _parts(members: int, each: int, chunk: int) -> list[slice]:
    count = max(1, chunk // max(each, 1))
    return [slice(start, start + count) for start in range(0, members, count)]


def empty(like: Tensor, members: int, rows: int, channels: int, size: Sequence[int]) -> Tensor:
    """Return memory for [members, rows, channels, *size], the channels innermost."""
    return like.new_empty((members, rows, *size, channels)).permute(0, 1, 4, 2, 3)


def _nhwc(one: Tensor) -> Tensor:
    return one.contiguous(memory_format=torch.channels_last)


def _backward(
    gradients: Tensor, inputs: Tensor, weight: Tensor, window: Window, which: tuple[bool, bool]
) -> tuple[Tensor, Tensor, Tensor]:
    result: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
        _nhwc(gradients), _nhwc(inputs), weight, None, window.stride, window.padding, window.dilation, False, (0, 0),
        window.groups, (*which, False),
    )  # fmt: skip  # an argument a line would hide which belong together
    return result


def _grouped(stacked: Tensor, groups: int) -> Tensor:
    """[members, rows, channels, height, width] as [members, groups, rows, height, width, channels /
    groups].
    """
    members, rows, channels, *size = stacked.shape
    return stacked.view(members, rows, groups, channels // groups, *size).permute(0, 2, 1, 4, 5, 3)


def _rows(stacked: Tensor, groups: int) -> Tensor:
    """[members, rows, channels, height, width] as [members * groups, rows * height * width,
    channels / groups].
    """
    return _grouped(stacked, groups).flatten(2, 4).flatten(0, 1)


def _split(product: Tensor, rows: int, positions: Sequence[int], groups: int) -> Tensor:
    return product.view(-1, groups, rows, *positions, product.shape[-1])


def _matrices(weight: Tensor, groups: int) -> Tensor:
    """[members, outputs, channels / groups, *kernel] as [members * groups, outputs / groups, kernel
    * channels].
    """
    return weight.permute(0, 1, 3, 4, 2).reshape(weight.shape[0] * groups, weight.shape[1] // groups, -1)


def _patches(inputs: Tensor, kernel: Sequence[int], window: Window) -> Tensor:
    """Return [members * groups, rows * positions, kernel * channels / groups]: what each output
    position sees.
    """
    members, rows, channels, *size = inputs.shape
    (up, left), each = window.padding, channels // window.groups
    padded = inputs.new_zeros((members, rows, size[0] + 2 * up, size[1] + 2 * left, channels))
    padded[:, :, up : up + size[0], left : left + size[1]] = inputs.permute(0, 1, 3, 4, 2)
    whole, row, down, across, _ = padded.stride()
    steps = (down * window.stride[0], across * window.stride[1], down * window.dilation[0], across * window.dilation[1])
    shape = (members, window.groups, rows, *window.outputs(size, kernel), *kernel, each)
    return padded.as_strided(shape, (whole, each, row, *steps, 1)).reshape(
        members * window.groups, -1, each * kernel[0] * kernel[1]
    )


def _folded(patches: Tensor, size: Sequence[int], kernel: Sequence[int], window: Window) -> Tensor:
    """Add up [members, groups, rows, *positions, kernel * channels] where patches overlap:
    ``_patches`` transposed.
    """
    members, groups, rows, *positions, width = patches.shape
    whole = patches.view(members, groups, rows, *positions, *kernel, width // (kernel[0] * kernel[1]))
    patches = whole.permute(0, 2, 3, 4, 5, 6, 1, 7)
    (up, left), shape = window.padding, patches.shape[-2:]
    padded = patches.new_zeros((members, rows, size[0] + 2 * up, size[1] + 2 * left, *shape))
    for y in range(kernel[0]):
        for x in range(kernel[1]):
            down, across = (
                slice(at * dilation, at * dilation + stride * (count - 1) + 1, stride)
                for at, dilation, stride, count in zip((y, x), window.dilation, window.stride, positions, strict=True)
            )
            padded[:, :, down, across].add_(patches[:, :, :, :, y, x])
    kept = padded.flatten(4)[:, :, up : up + size[0], left : left + size[1]]
    return kept.permute(0, 1, 4, 2, 3)
