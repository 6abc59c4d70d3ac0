"""``OwnLoss``: a task whose loss is a function of the user's."""

from collections.abc import Callable

import torch
from torch import Tensor

from reglab.tasks.answers import Answers
from reglab.tasks.base import Scale, Task

Loss = Callable[[Tensor, Tensor], Tensor]
_AS_IN_BASE = (
    *("name", "score", "also", "others", "means", "decides", "exclusive"),
    *("classes", "integers", "standardizes", "reads"),
)


class OwnLoss(Task):
    """The task ``base`` with another loss; scores and decisions stay.

    A row's statistics are its loss and then those of the base, of which the base's loss is left out
    where rows are decided.

    Args:
        base: The task.
        loss: Of aligned outputs and targets: ``[rows]``, ``[rows, ...]`` of which the mean is
            taken, or 0-dim where rows have no loss of their own.
        per_example: Whether they have.
        dims: Axes of the aligned outputs of one model.
        batch: Rows that a loss without values per example is computed over, the last ones fewer.
        why_solo: Why it cannot be vmapped over models; empty if it can.
        key: What tells it from others; None: the function.
    """

    nonnegative = False

    def __init__(
        self, base: Task, loss: Loss, per_example: bool, dims: int, batch: int, why_solo: str = "", key: object = None
    ) -> None:
        for name in _AS_IN_BASE:
            setattr(self, name, getattr(base, name))
        self.base, self.loss, self.per_example, self.dims, self.batch = base, loss, per_example, dims, batch
        self.why_solo, self.key = why_solo, loss if key is None else key
        self.from_statistics = tuple(name for name in base.from_statistics if name != "perplexity")

    def fitting(self, outputs: Tensor, targets: Tensor) -> Tensor | None:
        return self.base.fitting(outputs, targets)

    def losses(self, aligned: Tensor, targets: Tensor) -> Tensor:
        if aligned.dim() > self.dims:
            return torch.stack([self.losses(each, targets) for each in aligned])
        if self.per_example:
            values = self.loss(aligned, targets)
            return values.flatten(1).mean(1) if values.dim() > 1 else values
        pairs = zip(aligned.split(self.batch), targets.split(self.batch), strict=True)  # type: ignore[no-untyped-call]  # torch leaves it so
        parts = [self.loss(outputs, given).expand(len(given)) for outputs, given in pairs]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def log_losses(self, statistics: Tensor, aligned: Tensor | None, targets: Tensor | None) -> Tensor:
        assert aligned is not None
        assert targets is not None
        return self.base.losses(aligned, targets)

    def statistics(self, aligned: Tensor, targets: Tensor) -> Tensor:
        return self._behind(self.losses(aligned, targets), self.base.statistics(aligned, targets))

    def statistics_of(self, losses: Tensor, aligned: Tensor, targets: Tensor) -> Tensor:
        return self._behind(losses, self.base.statistics_of(losses, aligned, targets))

    def _behind(self, losses: Tensor, statistics: Tensor) -> Tensor:
        return torch.cat([losses.unsqueeze(0), statistics[1:] if self.decides else statistics])

    def statistic_count(self, outputs: int) -> int:
        return self.base.statistic_count(outputs) + (not self.decides)

    def columns_of(self, statistics: Tensor) -> Tensor:
        return statistics[1:]

    def groups(self, rows: int) -> Tensor | None:
        if not self.base.per_example:
            return self.base.groups(rows)
        return None if self.per_example else torch.arange(rows) // self.batch

    def scale(self, targets: Tensor) -> Scale:
        return self.base.scale(targets)

    def decide(self, aligned: Tensor) -> Tensor:
        return self.base.decide(aligned)

    def shares(self, aligned: Tensor, targets: Tensor) -> Tensor:
        return self.base.shares(aligned, targets)

    def answers(self, aligned: Tensor, targets: Tensor) -> Answers:
        return self.base.answers(aligned, targets)

    def for_metrics(self, aligned: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return self.base.for_metrics(aligned, targets)

    def constant(self, targets: Tensor, outputs: int) -> Tensor:
        return self.base.constant(targets, outputs)

    def width(self, outputs: Tensor) -> int:
        return self.base.width(outputs)
