"""A multilayer perceptron of any depth and width."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from reglab.core.errors import UserError
from reglab.models.layers import activation_class, check_norm, positive_integers

MAX_DEPTH = 10_000  # hidden layers: more would fill the memory with objects before anything could tell


class MLP(nn.Module):
    """Map ``[rows, *inputs]`` to ``[rows, outputs]`` by hidden layers ``activation(norm(linear))``
    and a linear head.

    Args:
        width: Units of every hidden layer, or a list with one entry a layer.
        depth: Number of hidden layers, 0 to 10,000 (0 is a linear model); None with a list of widths.
            Default for one width: 2.
        activation: Name of an activation of ``torch.nn``, such as relu, gelu, tanh, leaky_relu,
            identity.
        norm: None, ``batch`` (the linear maps then have no bias, which BatchNorm would cancel) or
            ``layer``.
        inputs, outputs: Filled in from the data; inputs of any shape are flattened.

    Raises:
        UserError: For an unknown activation or norm, and for widths that contradict the depth.
    """

    reads: ClassVar[str] = "flat"

    def __init__(
        self,
        width: int | Sequence[int] = 256,
        depth: int | None = None,
        activation: str = "relu",
        norm: str | None = None,
        *,
        inputs: int | tuple[int, ...],
        outputs: int,
    ):
        super().__init__()
        check_norm(norm)
        features = inputs if isinstance(inputs, int) else math.prod(inputs)
        self.hidden = nn.Sequential()
        for units in hidden_widths(width, depth):
            self.hidden.append(_layer(features, units, activation_class(activation), norm))
            features = units
        self.head = nn.Linear(features, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.hidden(inputs.flatten(1)))
        return outputs


def hidden_widths(width: int | Sequence[int], depth: int | None) -> list[int]:
    """Return one width for each hidden layer; raises UserError for widths that are not >= 1 or
    contradict the depth.

    Args:
        width: Of all layers, or one for each.
        depth: Number of layers, or None.

    Returns:
        Units of each hidden layer.
    """
    widths = positive_integers(width, "width")
    if depth is not None and (not isinstance(depth, int) or isinstance(depth, bool) or not 0 <= depth <= MAX_DEPTH):
        raise UserError(f"depth={depth} must be an integer from 0 to {MAX_DEPTH:,}")
    if isinstance(width, int):
        return widths * (2 if depth is None else depth)
    if depth is not None and depth != len(widths):
        raise UserError(
            f"width={widths} has {len(widths)} layers and depth={depth}; set model.depth=null where width is a list"
        )
    return widths


def _layer(inputs: int, units: int, activation: type[nn.Module], norm: str | None) -> nn.Sequential:
    parts: list[tuple[str, nn.Module]] = [("linear", nn.Linear(inputs, units, bias=norm != "batch"))]
    if norm is not None:
        parts.append(("norm", nn.BatchNorm1d(units) if norm == "batch" else nn.LayerNorm(units)))
    return nn.Sequential(OrderedDict([*parts, ("activation", activation())]))
