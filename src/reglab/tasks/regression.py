"""Regression: squared error of one or several columns."""

import torch
from torch import Tensor

from reglab.core.metric_direction import LOSS_OF_REGRESSION
from reglab.tasks.base import Scale
from reglab.tasks.elementwise import Elementwise
from reglab.tasks.explained import Explained, mean_of_targets


class Regression(Elementwise, Explained):
    """``(output - target)^2``, not halved, mean over columns: targets ``[rows]`` or
    ``[rows, columns]``.
    """

    name = "regression"
    score = "r2"
    also = ("rmse",)
    others = ("mae",)
    from_statistics: tuple[str, ...] = ("r2", "rmse", "mae")
    standardizes = True
    note = LOSS_OF_REGRESSION

    def losses(self, aligned: Tensor, targets: Tensor) -> Tensor:
        losses = (aligned - targets.to(aligned.dtype).expand(aligned.shape)).square()
        return losses.mean(-1) if targets.dim() == 2 else losses

    def statistics(self, aligned: Tensor, targets: Tensor) -> Tensor:
        squares = (aligned - targets.to(aligned.dtype)).square()
        return squares.unsqueeze(0) if targets.dim() == 1 else squares.movedim(-1, 0)

    def scale(self, targets: Tensor) -> Scale:
        columns = targets if targets.dim() == 2 else targets.unsqueeze(-1)
        spread, mean = torch.std_mean(columns, dim=0, correction=0)
        divisor = spread.masked_fill(spread == 0, 1.0)
        return Scale(divisor.square(), spread == 0, ((columns - mean) / divisor).square().mT)

    def constant(self, targets: Tensor, outputs: int) -> Tensor:
        return mean_of_targets(targets).expand(outputs)
