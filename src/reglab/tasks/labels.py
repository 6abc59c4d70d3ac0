"""``Labels``: tasks of logits against targets of 0 and 1."""

import torch
from torch import Tensor
from torch.nn import functional

from reglab.tasks.answers import Answers, by_column
from reglab.tasks.elementwise import Elementwise

OF_CLASSES = ["balanced_accuracy", "auroc", "average_precision", "f1", "log_loss", "brier"]
"""Scores that follow from ``answers``."""


class Labels(Elementwise):
    """A logit for each 0 or 1; the loss is ``-log sigmoid(±output)``, the mean over labels."""

    others = OF_CLASSES

    def losses(self, aligned: Tensor, targets: Tensor) -> Tensor:
        expected = targets.to(aligned.dtype).expand(aligned.shape)
        losses = functional.binary_cross_entropy_with_logits(aligned, expected, reduction="none")
        return losses.mean(-1) if targets.dim() == 2 else losses

    def statistics(self, aligned: Tensor, targets: Tensor) -> Tensor:
        return torch.stack([self.losses(aligned, targets), self.shares(aligned, targets)])

    def decide(self, aligned: Tensor) -> Tensor:
        return (aligned > 0).long()

    def answers(self, aligned: Tensor, targets: Tensor) -> Answers:
        return by_column(aligned, targets == 1, aligned > 0)

    def for_metrics(self, aligned: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return aligned.sigmoid(), targets.long()

    def constant(self, targets: Tensor, outputs: int) -> Tensor:
        ones = targets.reshape(len(targets), -1).to(torch.get_default_dtype()).sum(0)
        return ((ones + 0.5) / (len(targets) - ones + 0.5)).log().expand(outputs)

    def uniform_losses(self, outputs: Tensor) -> Tensor:
        both = (functional.softplus(outputs) + functional.softplus(-outputs)) / 2
        return both.reshape(both.shape[0], -1).mean(dim=1)
