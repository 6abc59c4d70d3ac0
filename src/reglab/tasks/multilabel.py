"""Several labels a row, each 0 or 1."""

import torch
from torch import Tensor

from reglab.rng import counter_rng
from reglab.tasks.labels import Labels


class Multilabel(Labels):
    """Labels that do not exclude each other: outputs ``[..., rows, labels]``, targets float
    ``[rows, labels]``.
    """

    name = "multilabel"
    reads = "labels"

    def probabilities(self, outputs: Tensor) -> Tensor:
        return outputs.sigmoid()

    def shares(self, aligned: Tensor, targets: Tensor) -> Tensor:
        return super().shares(aligned, targets).mean(-1)

    def wrong_targets(self, targets: Tensor, index: Tensor, outputs: int, key: Tensor) -> Tensor:
        """Return targets of which each label is flipped by a coin toss, and at least one is."""
        toss = counter_rng.uniform(key, index[:, None] * outputs + torch.arange(outputs))
        flip = (toss < 0.5) | (toss == toss.min(dim=1, keepdim=True).values)
        return torch.where(flip, 1 - targets, targets)
