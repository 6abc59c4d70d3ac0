"""Ranking: documents in the order of their relevance to a query."""

from collections.abc import Sequence
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional

from reglab.rng import counter_rng
from reglab.tasks.base import Task
from reglab.tasks.positions import IGNORED

DEPTH = 10  # ranks that NDCG looks at
MOST = 60  # of a relevance: larger gains would leave nothing of the others


class Ranking(Task):
    """ListNet, the cross entropy of ``softmax(outputs)`` against ``softmax(relevance)`` over the
    documents of a query. A query is one example: outputs ``[..., queries, documents, 1]`` or
    ``[..., queries, documents]``, targets ``[queries, documents]``, >= 0, -100 where there is no
    document.

    A row's statistics are its loss, its NDCG over the first 10 ranks, and the reciprocal rank of
    its first document that is relevant at all.

    Source:
        Cao et al. (2007), Learning to rank: from pairwise approach to listwise approach.
    """

    name = "ranking"
    score = "ndcg"
    also = ("mrr",)
    from_statistics = ("ndcg", "mrr")
    means = MappingProxyType({"mrr": 2})
    reads = "queries"
    of_predictions = "score orders the documents of a query, the most relevant with the highest; it compares no queries"

    def fitting(self, outputs: Tensor, targets: Tensor) -> Tensor | None:
        if targets.dim() != 2:
            return None
        if outputs.dim() >= 3 and outputs.shape[-3:] == (*targets.shape, 1):
            outputs = outputs.squeeze(-1)
        return outputs if outputs.shape[-2:] == targets.shape else None

    def losses(self, aligned: Tensor, targets: Tensor) -> Tensor:
        absent = targets < 0
        wanted = targets.to(aligned.dtype).masked_fill(absent, -torch.inf).softmax(-1)
        found = functional.log_softmax(aligned.masked_fill(absent, -torch.inf), -1).masked_fill(absent, 0.0)
        return -(wanted * found).sum(-1)

    def statistics(self, aligned: Tensor, targets: Tensor) -> Tensor:
        return self.statistics_of(self.losses(aligned, targets), aligned, targets)

    def statistics_of(self, losses: Tensor, aligned: Tensor, targets: Tensor) -> Tensor:
        above, up_to = _ranks(aligned, targets)
        scores = ndcg(above, up_to, targets), _reciprocal_rank(above, up_to, targets)
        return torch.stack([losses, *(score.to(losses.dtype) for score in scores)])

    def statistic_count(self, outputs: int) -> int:
        return 3

    def quantities(self, outputs: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        return {"score": outputs.reshape(len(outputs))}

    def constant(self, targets: Tensor, outputs: int) -> Tensor:
        return torch.zeros(targets.shape[1], outputs)

    def width(self, outputs: Tensor) -> int:
        return outputs.shape[-1] if outputs.dim() > 2 else 1

    def outputs(self, names: int, columns: int) -> int:
        return 1

    def check_targets(self, values: Tensor) -> str:
        if not bool(((values >= 0) | (values == IGNORED)).all()):
            return f"relevance must be >= 0, and {IGNORED} where a query has no further document"
        if bool((values > MOST).any()):
            return f"relevance is a grade, and NDCG's gain is 2^grade - 1: grades of at most {MOST}"
        empty = values.dim() == 2 and not bool((values >= 0).any(1).all())
        return "a query has no document: leave it out" if empty else ""

    def wrong_targets(self, targets: Tensor, index: Tensor, outputs: int, key: Tensor) -> Tensor:
        """Return for each document the relevance of another one of its query."""
        counts = (targets >= 0).sum(1)
        drawn = (counter_rng.uniform(key, index).double() * (counts - 1)).long()
        moved = (torch.arange(targets.shape[1]) + 1 + drawn.unsqueeze(1)) % counts.clamp(min=1).unsqueeze(1)
        return torch.where(targets >= 0, targets.gather(1, moved), targets)


def ndcg(above: Tensor, up_to: Tensor, targets: Tensor) -> Tensor:
    """Return the normalized discounted cumulative gain of each query over 10 ranks,
    ``[..., queries]``; 0 where nothing is relevant.

    A document's gain is ``2^relevance - 1``, its discount ``1 / log2(1 + rank)``, and documents of
    equal scores share their discounts.

    Args:
        above, up_to: How many documents score higher than each, and at least as high, ``[...,
            queries, documents]``.
        targets: ``[queries, documents]``.

    Source:
        Järvelin & Kekäläinen (2002), Cumulated gain-based evaluation of IR techniques; McSherry &
        Najork (2008), Computing information retrieval performance measures efficiently in the
        presence of tied scores.
    """
    ranks = torch.arange(1, targets.shape[-1] + 1, device=targets.device, dtype=torch.float64)
    discounts = torch.where(ranks <= DEPTH, 1 / (ranks + 1).log2(), 0.0)
    cumulative = torch.cat([discounts.new_zeros(1), discounts.cumsum(0)])
    gains = torch.where(targets < 0, 0.0, targets.double().exp2() - 1)
    shared = (cumulative[up_to] - cumulative[above]) / (up_to - above).clamp(min=1)
    best = (gains.sort(-1, descending=True).values * discounts).sum(-1)
    gained = (gains * shared).sum(-1)
    return torch.where(best > 0, gained / best.masked_fill(best == 0, 1.0), 0.0)


def _reciprocal_rank(above: Tensor, up_to: Tensor, targets: Tensor) -> Tensor:
    """Return the reciprocal rank of the first relevant document, in the middle of those that score
    alike; 0 where there is none.
    """
    ranks = (above + up_to + 1).double() / 2
    reciprocal = torch.where(targets > 0, 1 / ranks.clamp(min=1), 0.0)
    return reciprocal.amax(-1)


def _ranks(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return how many documents of the query score higher than each, and at least as high."""
    negated = -scores.detach().masked_fill(targets < 0, -torch.inf)  # behind all others
    ordered = negated.sort(-1).values
    above, up_to = (torch.searchsorted(ordered, negated.contiguous(), right=right) for right in (False, True))
    return above, up_to
