"""A task as a user writes it."""

from torch import Tensor

from reglab.tasks.elementwise import Elementwise
from reglab.tasks.explained import Explained


class Absolute(Elementwise, Explained):
    name = "absolute"

    def losses(self, aligned: Tensor, targets: Tensor) -> Tensor:
        return (aligned - targets).abs()

    def statistics(self, aligned: Tensor, targets: Tensor) -> Tensor:
        return (aligned - targets).abs().unsqueeze(0)

    def constant_losses(self, columns: Tensor) -> Tensor:
        return (columns - columns.quantile(0.5, 0)).abs().mT

    def constant(self, targets: Tensor, outputs: int) -> Tensor:
        return targets.quantile(0.5).expand(outputs)
