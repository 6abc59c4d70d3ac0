"""A linear model: least squares, logistic and softmax regression."""

import math
from typing import ClassVar

from torch import Tensor, nn


class Linear(nn.Module):
    """Map ``[rows, *inputs]`` to ``[rows, outputs]`` by one affine map of the flattened inputs.

    Args:
        bias: Whether there is an intercept.
        inputs, outputs: Filled in from the data.
    """

    reads: ClassVar[str] = "flat"

    def __init__(self, bias: bool = True, *, inputs: int | tuple[int, ...], outputs: int):
        super().__init__()
        features = inputs if isinstance(inputs, int) else math.prod(inputs)
        self.head = nn.Linear(features, outputs, bias=bias)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(inputs.flatten(1))
        return logits
