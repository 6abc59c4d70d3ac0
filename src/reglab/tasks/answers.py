"""``Answers``: outputs and decisions of a classifier, column by column."""

from typing import NamedTuple

from torch import Tensor


class Answers(NamedTuple):
    """Outputs and decisions of a classifier, column by column: of each class, of the one of a
    binary task, or of each label.

    Args:
        scores: log-probabilities or logits.
        wanted, predicted: 1 where the row is of the column, or is predicted to be. Each
            ``[..., columns, rows]``.
    """

    scores: Tensor
    wanted: Tensor
    predicted: Tensor


def by_column(scores: Tensor, wanted: Tensor, predicted: Tensor) -> Answers:
    """Return answers from values ``[..., rows, columns]``."""
    columns = (each.to(scores.dtype).transpose(-1, -2).expand(scores.mT.shape) for each in (scores, wanted, predicted))
    return Answers(*(each.contiguous() for each in columns))
