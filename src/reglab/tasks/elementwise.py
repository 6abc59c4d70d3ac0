"""``Elementwise``: tasks whose outputs have the shape of the targets."""

from torch import Tensor

from reglab.tasks.base import Task


class Elementwise(Task):
    """An output for each number of the target: ``[..., rows]`` or ``[..., rows, columns]``.

    An output column of width 1 is dropped where the targets have none.
    """

    def fitting(self, outputs: Tensor, targets: Tensor) -> Tensor | None:
        if targets.dim() == 1 and outputs.dim() >= 2 and outputs.shape[-2:] == (targets.shape[0], 1):
            outputs = outputs.squeeze(-1)
        return outputs if outputs.shape[-targets.dim() :] == targets.shape else None
