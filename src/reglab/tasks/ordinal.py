"""Ordinal regression: classes in an order, by conditional logits."""

from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional

from reglab.rng import counter_rng
from reglab.tasks.answers import Answers, by_column
from reglab.tasks.base import Task
from reglab.tasks.labels import OF_CLASSES


class Ordinal(Task):
    """``-log p(class)`` where output k is the logit of ``p(class > k | class >= k)``: outputs
    ``[..., rows, classes - 1]``, targets int64 ``[rows]`` from 0.

    A row is decided for the median class, the best one for the mean absolute error.

    Source:
        Shi, Cao & Raschka (2023), Deep neural networks for rank-consistent ordinal regression based
        on conditional probabilities (CORN).
    """

    name = "ordinal"
    also = ("mae",)
    others = OF_CLASSES
    from_statistics = ("accuracy", "mae")
    means = MappingProxyType({"mae": 2})
    exclusive = True
    classes = True
    integers = True
    reads = "levels"

    def fitting(self, outputs: Tensor, targets: Tensor) -> Tensor | None:
        fits = targets.dim() == 1 and outputs.dim() >= 2 and outputs.shape[-2] == targets.shape[0]
        return outputs if fits else None

    def losses(self, aligned: Tensor, targets: Tensor) -> Tensor:
        below, at = (compared.to(aligned.dtype) for compared in _passed(aligned, targets))
        return (below * functional.softplus(-aligned) + at * functional.softplus(aligned)).sum(-1)

    def statistics(self, aligned: Tensor, targets: Tensor) -> Tensor:
        return self.statistics_of(self.losses(aligned, targets), aligned, targets)

    def statistics_of(self, losses: Tensor, aligned: Tensor, targets: Tensor) -> Tensor:
        off = (self.decide(aligned) - targets).abs().to(losses.dtype)
        return torch.stack([losses, (off == 0).to(losses.dtype), off])

    def statistic_count(self, outputs: int) -> int:
        return 3

    def decide(self, aligned: Tensor) -> Tensor:
        return (aligned.sigmoid().cumprod(-1) > 0.5).sum(-1)

    def probabilities(self, outputs: Tensor) -> Tensor:
        return self._log_probabilities(outputs).exp()

    def answers(self, aligned: Tensor, targets: Tensor) -> Answers:
        scores = self._log_probabilities(aligned)
        classes = torch.arange(scores.shape[-1], device=aligned.device)
        wanted, predicted = (each.unsqueeze(-1) == classes for each in (targets, self.decide(aligned)))
        return by_column(scores, wanted, predicted)

    def _log_probabilities(self, aligned: Tensor) -> Tensor:
        """Return log p of each class, ``[..., rows, classes]``."""
        beyond = functional.logsigmoid(aligned).cumsum(-1)  # log p(class > k)
        reached = torch.cat([torch.zeros_like(beyond[..., :1]), beyond], -1)
        stopped = torch.cat([functional.logsigmoid(-aligned), torch.zeros_like(beyond[..., :1])], -1)
        return reached + stopped

    def for_metrics(self, aligned: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return self.decide(aligned), targets

    def constant(self, targets: Tensor, outputs: int) -> Tensor:
        counts = torch.bincount(targets.long(), minlength=outputs + 1) + 0.5
        beyond = counts.flip(0).cumsum(0).flip(0)[1:]
        return (beyond / counts[:-1]).log()

    def outputs(self, names: int, columns: int) -> int:
        return names - 1

    def wrong_targets(self, targets: Tensor, index: Tensor, outputs: int, key: Tensor) -> Tensor:
        """Return another class, uniformly (symmetric noise)."""
        drawn = counter_rng.uniform(key, index).double()
        return (targets + 1 + (drawn * outputs).long()) % (outputs + 1)


def _passed(aligned: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return which thresholds the target is beyond, and at which it stops."""
    thresholds = torch.arange(aligned.shape[-1], device=aligned.device)
    return thresholds < targets.unsqueeze(-1), thresholds == targets.unsqueeze(-1)
