"""``Explained``: tasks of quantities, whose score is the share of the best constant's loss that the
model explains.
"""

import torch
from torch import Tensor

from reglab.tasks.base import Scale, Task


class Explained(Task):
    """The loss is the mean over columns; the score ``1 - loss / loss of the best constant``, the
    mean over columns.
    """

    score = "d2"
    from_statistics: tuple[str, ...] = ("d2",)
    decides = False

    def losses_of(self, statistics: Tensor) -> Tensor:
        return statistics.mean(0)

    def statistics_of(self, losses: Tensor, aligned: Tensor, targets: Tensor) -> Tensor:
        return self.statistics(aligned, targets)

    def statistic_count(self, outputs: int) -> int:
        return outputs

    def scale(self, targets: Tensor) -> Scale:
        columns = targets if targets.dim() == 2 else targets.unsqueeze(-1)
        losses = self.constant_losses(columns)
        mean = losses.mean(-1)
        constant = (columns == columns[:1]).all(0).expand(mean.shape) | (mean == 0)
        mean = mean.masked_fill(constant, 1.0)
        return Scale(mean, constant, losses / mean.unsqueeze(-1))

    def constant_losses(self, columns: Tensor) -> Tensor:
        """Return each row's loss by the constant that is best for targets ``[rows, columns]``,
        ``[statistics, rows]``.
        """
        raise NotImplementedError


def mean_of_targets(targets: Tensor) -> Tensor:
    """Return the mean of each column, ``[columns]``, in the default dtype."""
    return targets.reshape(len(targets), -1).to(torch.get_default_dtype()).mean(0)
