"""Segmentation: a class for each pixel."""

import torch
from torch import Tensor
from torch.nn import functional

from reglab.tasks.positions import IGNORED, Positions, log_shares, over_counted


class Segmentation(Positions):
    """Outputs ``[..., rows, classes, height, width]``, targets int64 ``[rows, height, width]``,
    -100 where a pixel does not count.

    A row's statistics are its loss, its share of right pixels, and for each class the pixels in the
    intersection of target and decision, then those in their union.
    """

    name = "segmentation"
    also = ("mean_iou",)
    from_statistics = ("accuracy", "mean_iou")

    def fitting(self, outputs: Tensor, targets: Tensor) -> Tensor | None:
        rows = targets.shape[:1]
        fits = targets.dim() == 3 and outputs.dim() >= 4 and outputs.shape[-4:-3] == rows
        return outputs if fits and outputs.shape[-2:] == targets.shape[1:] else None

    def losses(self, aligned: Tensor, targets: Tensor) -> Tensor:
        leading = aligned.shape[:-4]
        expanded = targets.expand(*leading, *targets.shape)
        if leading:
            aligned, expanded = aligned.flatten(0, -4), expanded.flatten(0, -3)
        losses = functional.cross_entropy(aligned, expanded, ignore_index=IGNORED, reduction="none")
        return over_counted(losses.reshape(*leading, *targets.shape), targets)

    def statistics_of(self, losses: Tensor, aligned: Tensor, targets: Tensor) -> Tensor:
        counted, decisions = targets != IGNORED, self.decide(aligned)
        shares = over_counted((decisions == targets).to(losses.dtype), targets)
        classes = torch.arange(aligned.shape[-3], device=aligned.device).reshape(-1, *(1 for _ in decisions.shape))
        wanted, predicted = targets == classes, (decisions == classes) & counted
        pixels = [(wanted & predicted).sum((-2, -1)), (wanted | predicted).sum((-2, -1))]
        return torch.cat([torch.stack([losses, shares]), *(each.to(losses.dtype) for each in pixels)])

    def statistic_count(self, outputs: int) -> int:
        return 2 + 2 * outputs

    def decide(self, aligned: Tensor) -> Tensor:
        return aligned.argmax(-3)

    def for_metrics(self, aligned: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return aligned.softmax(-3), targets

    def constant(self, targets: Tensor, outputs: int) -> Tensor:
        return log_shares(targets, outputs).reshape(-1, 1, 1).expand(outputs, *targets.shape[1:])

    def width(self, outputs: Tensor) -> int:
        return outputs.shape[-3]
