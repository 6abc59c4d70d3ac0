"""Survival: the time of an event, for some rows only known to be later."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from reglab.core.errors import UserError
from reglab.tasks.base import Task
from reglab.tasks.groups import filled_groups, groups_of

_LEAST_BLOCK = 64  # rows that are compared pair by pair


def cox_losses(log_hazards: Tensor, times: Tensor, events: Tensor) -> Tensor:
    """Return ``event * (log sum_{at risk} w * exp(log hazard) - log hazard)`` of each row.

    At risk of a row are those whose time is not before its own. Of d events at one time, the one
    with rank r from 0 counts all d by ``w = 1 - r / d`` (Efron's ties).

    Args:
        log_hazards: ``[..., rows]``.
        times: ``[..., rows]``.
        events: bool, of the shape of the times: whether the event was seen, at that time.

    Returns:
        ``[..., rows]``. Their sum is minus the partial log-likelihood.

    Source:
        Cox (1972), Regression models and life-tables; Efron (1977), The efficiency of Cox's
        likelihood function for censored data.
    """
    at_risk = times.unsqueeze(-2) >= times.unsqueeze(-1)
    tied = (times.unsqueeze(-2) == times.unsqueeze(-1)) & events.unsqueeze(-1) & events.unsqueeze(-2)
    rank, count = tied.tril(-1).sum(-1), tied.sum(-1).clamp(min=1)
    share = (rank.to(log_hazards.dtype) / count).unsqueeze(-1)
    weights = at_risk.to(log_hazards.dtype) - share * tied
    weighted = (log_hazards.unsqueeze(-2) + weights.log()).logsumexp(-1)
    return torch.where(events, weighted - log_hazards, 0.0)


def concordance_terms(risks: Tensor, times: Tensor, events: Tensor) -> Tensor:
    """Return terms of each row whose mean is the concordance index (Harrell's c): the share of the
    comparable pairs in which the row with the earlier event has the higher risk, equal risks half.

    A pair is comparable if the event of the earlier time was seen; of equal times, if one was seen
    and the other not. The terms are the index plus each row's influence on it.

    Args:
        risks: ``[..., rows]``.
        times: ``[rows]``.
        events: bool ``[rows]``.

    Returns:
        ``[..., rows]``; NaN where no pair is comparable.

    Source:
        Harrell et al. (1982), Evaluating the yield of medical tests.
    """
    rows, order = len(times), times.argsort(stable=True)
    risks, times, events = risks[..., order].contiguous(), times[order], events[order]
    concordant, comparable = torch.zeros_like(risks), torch.zeros_like(risks)
    for first, end in pairwise(_blocks(times)):
        block = slice(first, end)
        right, pairs = _pairs(risks[..., block], times[block], events[block])
        concordant[..., block] += right.sum(-1) + right.sum(-2)
        comparable[..., block] += pairs.sum(-1) + pairs.sum(-2)
        if end < rows:  # with later rows all events of the block are comparable
            seen, later = events[block], slice(end, rows)
            concordant[..., block] += seen * _shares_below(risks[..., later], risks[..., block])
            comparable[..., block] += seen * (rows - end)
            lower = _shares_below(risks[..., block][..., seen], risks[..., later])
            concordant[..., later] += seen.sum() - lower
            comparable[..., later] += seen.sum()
    total = comparable.sum(-1, keepdim=True)
    index = concordant.sum(-1, keepdim=True) / total
    terms = index + 2 * (concordant - index * comparable) * rows / total  # a pair counts for both of its rows
    return terms[..., order.argsort()]


def _blocks(times: Tensor) -> list[int]:
    """Return where blocks of sorted times begin, and the end: equal times are in one block."""
    size = max(_LEAST_BLOCK, math.isqrt(len(times)))
    first = (times[1:] != times[:-1]).nonzero().squeeze(1) + 1  # of each time but the first
    wanted = torch.arange(0, len(times), size, device=times.device)[1:]
    found = torch.searchsorted(first, wanted)
    starts = set(first[found[found < len(first)]].tolist())
    return [0, *sorted(starts), len(times)]


def _pairs(risks: Tensor, times: Tensor, events: Tensor) -> tuple[Tensor, Tensor]:
    """Return which pairs ``[..., rows, rows]`` are concordant, and which are comparable, the earlier
    row first.
    """
    later = (times.unsqueeze(-1) < times) | ((times.unsqueeze(-1) == times) & ~events)
    pairs = (events.unsqueeze(-1) & later).to(risks.dtype)
    difference = risks.unsqueeze(-1) - risks.unsqueeze(-2)
    return ((difference > 0).to(risks.dtype) + (difference == 0).to(risks.dtype) / 2) * pairs, pairs


def _shares_below(among: Tensor, risks: Tensor) -> Tensor:
    """Return how many of ``among`` are below each risk, equal ones half."""
    ordered, asked = among.sort(-1).values, risks.contiguous()
    return (torch.searchsorted(ordered, asked) + torch.searchsorted(ordered, asked, right=True)).to(risks.dtype) / 2


class Survival(Task):
    """Cox's partial likelihood: outputs are log-hazards, ``[..., rows, 1]`` or ``[..., rows]``;
    targets ``[rows, 2]``, a time, and 1 where the event was seen then, 0 where the row was lost from
    sight.

    The rows at risk are those of a group: of ``size`` rows that are fixed where the loss is
    measured, so that it is the same quantity on both sides of a gap, and in training of the rows of
    a batch. A row's statistics are its loss, and its term of the concordance index.

    Args:
        size: Rows of a group, 2 or more; ``data.task='survival(64)'``.
    """

    name = "survival"
    score = "concordance"
    from_statistics = ("concordance",)
    per_example = False
    reads = "times"
    of_predictions = (
        "log_hazard compares rows: the higher, the sooner the event. No baseline is estimated, so that it is "
        "neither a time nor a probability"
    )

    def __init__(self, size: float = 32) -> None:
        if size < 2 or size != int(size):
            raise UserError(f"survival: a group has a whole number of rows, 2 or more, got {size:g}")
        self.fewest = self.size = int(size)
        if self.size != 32:
            self.name = f"survival({self.size})"

    def fitting(self, outputs: Tensor, targets: Tensor) -> Tensor | None:
        if targets.dim() != 2 or targets.shape[-1] != 2:
            return None
        if outputs.dim() >= 2 and outputs.shape[-2:] == (len(targets), 1):
            outputs = outputs.squeeze(-1)
        return outputs if outputs.shape[-1:] == targets.shape[:1] else None

    def losses(self, aligned: Tensor, targets: Tensor) -> Tensor:
        times, events = targets[:, 0], targets[:, 1] > 0
        if len(targets) <= self.size:
            return cox_losses(aligned, times, events)
        index, back = (each.to(aligned.device) for each in filled_groups(len(targets), self.size))
        return cox_losses(aligned[..., index], times[index], events[index]).flatten(-2)[..., back]

    def groups(self, rows: int) -> Tensor | None:
        return groups_of(rows, self.size)

    def statistics(self, aligned: Tensor, targets: Tensor) -> Tensor:
        return self.statistics_of(self.losses(aligned, targets), aligned, targets)

    def shares(self, aligned: Tensor, targets: Tensor) -> Tensor:
        return concordance_terms(aligned, targets[:, 0], targets[:, 1] > 0)

    def quantities(self, outputs: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        return {"log_hazard": outputs.reshape(len(outputs))}

    def constant(self, targets: Tensor, outputs: int) -> Tensor:
        return torch.zeros(outputs)

    def outputs(self, names: int, columns: int) -> int:
        return 1

    def check_targets(self, values: Tensor) -> str:
        if values.dim() != 2 or values.shape[1] != 2:
            return "it takes a time and whether the event was seen, [rows, 2]"
        times, events = values.unbind(1)
        if not bool(((events == 0) | (events == 1)).all()):
            return "the event must be 1 where it was seen, and 0 where it was not"
        return "" if bool((times >= 0).all()) else "times must be >= 0"
