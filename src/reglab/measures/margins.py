"""Margins of a classifier on training and validation rows."""

import torch
from torch import Tensor

from reglab.core.errors import UserError
from reglab.measures.matrices import spectral_norms, sum_of_logs
from reglab.measures.measure import Measure, Measured, Need, Part
from reglab.tasks import Answers, Task

_LOW = 0.1


class Margins(Measure):
    """Margins: the logit of the true class minus the largest of the others, of each row.

    - ``margins/train_mean``, ``margins/val_mean``
    - ``margins/train_q10``, ``margins/val_q10``: their 10% quantile (linear between rows), which
      stands for the smallest one without hanging on a single row
    - ``margins/train_below``, ``margins/val_below``: the share of rows with a margin below 0
    - ``margins/train_normalized``: ``train_q10`` / the product of all weights' spectral norms, which
      does not change where one layer of a ReLU network without biases is scaled up and another down

    The two classes of a binary task have logits that differ by its one output. A row whose label the
    loss ignores has no margin.

    Args:
        every: See ``Measure``.

    Source:
        Bartlett, Foster & Telgarsky (2017), Spectrally-normalized margin bounds for neural networks
        (with the norms' product alone in place of their spectral complexity); Jiang et al. (2020),
        Fantastic generalization measures and where to find them.
    """

    needs = frozenset[Need]({"examples", "outputs", "whole weights"})
    charts = ("margins/*_q10",)

    def check(self, task: Task) -> None:
        if not task.classes or "ordinal" in task.name:
            raise UserError(
                f"the task {task.name} has no logit of each class: leave margins out of measure, or choose "
                "data.task=classification or binary"
            )

    def measure(self, of: Measured, state: dict[str, Tensor]) -> dict[str, Tensor]:
        metrics: dict[str, Tensor] = {}
        parts: tuple[Part, ...] = ("train", "val")
        for part in parts:
            margins = _margins(of, part)
            metrics |= {
                f"margins/{part}_mean": margins.nanmean(-1),
                f"margins/{part}_q10": margins.nanquantile(_LOW, dim=-1),
                f"margins/{part}_below": (margins < 0).double().where(~margins.isnan(), torch.nan).nanmean(-1),
            }
        norms = spectral_norms(of, state)
        if norms:
            scale = sum_of_logs(list(norms.values())).exp()
            metrics["margins/train_normalized"] = metrics["margins/train_q10"] / scale
        return metrics


def _margins(of: Measured, part: Part) -> Tensor:
    """Return the margin of each row, float64 ``[members, rows]``; NaN where its label is ignored."""
    outputs = of.side(part).outputs
    assert outputs is not None
    given: Answers = of.task.answers(outputs.double(), of.targets(part))
    if not of.task.exclusive:
        return (given.scores * (2 * given.wanted - 1)).flatten(-2)
    wanted = given.wanted == 1
    own = given.scores.masked_fill(~wanted, -torch.inf).amax(-2)
    other = given.scores.masked_fill(wanted, -torch.inf).amax(-2)
    return (own - other).where(wanted.any(-2), torch.nan)
