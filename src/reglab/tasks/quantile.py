"""Quantile regression: the pinball loss at given levels."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from reglab.core.errors import UserError
from reglab.tasks.explained import Explained


class Quantile(Explained):
    """``max(q * (y - output), (q - 1) * (y - output))``, mean over the levels q: outputs
    ``[..., rows, levels]``, targets ``[rows]``.

    Nothing keeps the quantiles of a row in their order.

    Args:
        levels: Between 0 and 1, rising; ``data.task='quantile(0.05,0.95)'``.

    Source:
        Koenker & Bassett (1978), Regression quantiles.
    """

    name = "quantile"
    standardizes = True

    def __init__(self, *levels: float) -> None:
        levels = levels or (0.1, 0.5, 0.9)
        if not all(0 < level < 1 for level in levels) or not all(low < high for low, high in pairwise(levels)):
            raise UserError(f"quantile: levels must be between 0 and 1 and rise, got {', '.join(map(str, levels))}")
        self.levels = levels
        if levels != (0.1, 0.5, 0.9):
            self.name = f"quantile({','.join(f'{level:g}' for level in levels)})"

    def fitting(self, outputs: Tensor, targets: Tensor) -> Tensor | None:
        fits = targets.dim() == 1 and outputs.dim() >= 2 and outputs.shape[-2:] == (len(targets), len(self.levels))
        return outputs if fits else None

    def losses(self, aligned: Tensor, targets: Tensor) -> Tensor:
        return self._pinball(aligned, targets).mean(-1)

    def quantities(self, outputs: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        return {f"quantile_{level:g}": outputs[:, column] for column, level in enumerate(self.levels)}

    def statistics(self, aligned: Tensor, targets: Tensor) -> Tensor:
        return self._pinball(aligned, targets).movedim(-1, 0)

    def constant_losses(self, columns: Tensor) -> Tensor:
        return self._pinball(self._quantiles(columns.squeeze(-1)).unsqueeze(0), columns.squeeze(-1)).mT

    def constant(self, targets: Tensor, outputs: int) -> Tensor:
        return self._quantiles(targets.to(torch.get_default_dtype()))

    def outputs(self, names: int, columns: int) -> int:
        if columns > 1:
            raise UserError(f"quantile takes one target, got {columns} columns: name one")
        return len(self.levels)

    def _pinball(self, quantiles: Tensor, targets: Tensor) -> Tensor:
        above = targets.to(quantiles.dtype).unsqueeze(-1) - quantiles
        levels = torch.tensor(self.levels, dtype=quantiles.dtype, device=quantiles.device)
        return torch.maximum(levels * above, (levels - 1) * above)

    def _quantiles(self, targets: Tensor) -> Tensor:
        """Return the quantiles ``[levels]`` of targets ``[rows]``, interpolated."""
        ordered, last = targets.sort(0).values, len(targets) - 1
        ends = [(level * last, math.floor(level * last), math.ceil(level * last)) for level in self.levels]
        return torch.stack([ordered[low] + (at - low) * (ordered[high] - ordered[low]) for at, low, high in ends])
