"""``Positions``: tasks of a class at each of several positions of an example, some of which do not
count.
"""

import torch
from torch import Tensor

from reglab.tasks.base import Task

IGNORED = -100  # of targets, as torch's cross entropy has it


class Positions(Task):
    """Cross entropy at each position; an example's loss is the mean over its positions that count,
    those whose target is not -100.

    An example without any has a loss of 0 and counts as decided wrongly.
    """

    integers = True
    reads = "dense"

    def shares(self, aligned: Tensor, targets: Tensor) -> Tensor:
        return over_counted((self.decide(aligned) == targets).to(aligned.dtype), targets)

    def statistics(self, aligned: Tensor, targets: Tensor) -> Tensor:
        return self.statistics_of(self.losses(aligned, targets), aligned, targets)

    def check_targets(self, values: Tensor) -> str:
        if bool(((values < 0) & (values != IGNORED)).any()):
            return f"classes must be >= 0, and {IGNORED} where a position does not count"
        empty = (values == IGNORED).flatten(1).all(1).nonzero()
        if len(empty):
            return f"no position of row {int(empty[0])} counts (all are {IGNORED}): leave such rows out"
        return ""


def over_counted(values: Tensor, targets: Tensor) -> Tensor:
    """Return the mean ``[..., rows]`` of values ``[..., rows, *positions]`` over what counts."""
    counted = (targets != IGNORED).to(values.dtype)
    axes = tuple(range(1 - targets.dim(), 0))
    return (values * counted).sum(axes) / counted.sum(axes).clamp(min=1)


def log_shares(targets: Tensor, classes: int) -> Tensor:
    """Return the logarithm of each class's share of what counts, ``[classes]``."""
    counts = torch.bincount(targets[targets >= 0].long(), minlength=classes) + 0.5
    return (counts / counts.sum()).log()
