"""A small convolutional network for images and signals."""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from reglab.core.errors import UserError
from reglab.models.layers import activation_class, check_norm, positive_integers


class CNN(nn.Module):
    """Map ``[rows, channels, height, width]`` or ``[rows, channels, length]`` to
    ``[rows, outputs]``.

    Blocks ``activation(norm(convolution))``, the mean over all positions, and a linear head. The
    first convolution keeps the size and each further one halves it by its stride (rounding up, so
    that small inputs never vanish).

    Args:
        channels: Output channels of each block.
        kernel: Odd size of the convolutions.
        activation: Name of an activation of ``torch.nn``.
        norm: None, ``batch`` (convolutions without bias) or ``layer`` (GroupNorm of one group:
            channels and positions).
        inputs, outputs: Filled in from the data: Conv2d for (channels, height, width), Conv1d for
            (channels, length).

    Raises:
        UserError: If the inputs have no channels and positions, or an option is invalid.
    """

    reads: ClassVar[str] = "image"

    def __init__(
        self,
        channels: Sequence[int] = (32, 64),
        kernel: int = 3,
        activation: str = "relu",
        norm: str | None = None,
        *,
        inputs: int | tuple[int, ...],
        outputs: int,
    ):
        super().__init__()
        check_norm(norm)
        shape = (inputs,) if isinstance(inputs, int) else tuple(inputs)
        if len(shape) not in (2, 3):
            raise UserError(
                f"CNN needs inputs (channels, height, width) or (channels, length), got {shape}: a row of a table has "
                "no positions to convolve over, so use model=mlp (digits and mnist1d have data.shape=image)"
            )
        if not isinstance(kernel, int) or kernel < 1 or kernel % 2 == 0:
            raise UserError(f"kernel={kernel} must be an odd integer >= 1")
        sizes = [shape[0], *positive_integers(channels, "channels")]
        planar = len(shape) == 3
        self.blocks = nn.Sequential()
        for block, (before, after) in enumerate(pairwise(sizes)):
            convolution = _convolution(planar, before, after, kernel, 1 if block == 0 else 2, bias=norm != "batch")
            parts = [("convolution", convolution), *_normalization(norm, after, planar)]
            parts.append(("activation", activation_class(activation)()))
            self.blocks.append(nn.Sequential(OrderedDict(parts)))
        self.head = nn.Linear(sizes[-1], outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.blocks(inputs).flatten(2).mean(2))
        return outputs


def _convolution(planar: bool, inputs: int, outputs: int, kernel: int, stride: int, bias: bool) -> nn.Module:
    convolution_class = nn.Conv2d if planar else nn.Conv1d
    return convolution_class(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=bias)


def _normalization(norm: str | None, channels: int, planar: bool) -> list[tuple[str, nn.Module]]:
    if norm is None:
        return []
    if norm == "layer":
        return [("norm", nn.GroupNorm(1, channels))]
    return [("norm", nn.BatchNorm2d(channels) if planar else nn.BatchNorm1d(channels))]
