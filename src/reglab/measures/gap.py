"""The audited gap between training and validation, with a bootstrap interval that costs one matrix product."""

from typing import NamedTuple

import torch
from torch import Tensor

from reglab import draws
from reglab.errors import UserError
from reglab.measures.evaluate import Evaluation
from reglab.measures.facts import resampled_means
from reglab.measures.losses import Task
from reglab.measures.scores import score_name, score_of_means, score_terms, scores

_CELLS = 2**22  # drawn at a time: bounds the temporaries of drawing to some 100 MB


class Side(NamedTuple):
    """One side of a gap.

    losses: ``[..., rows]``. score: ``[...]``. loss_means, score_means: of every resample, ``[..., resamples]``.
    """

    losses: Tensor
    score: Tensor
    loss_means: Tensor
    score_means: Tensor


class Bootstrap:
    """Percentile bootstrap intervals of the gap, from resampling weights that are drawn once.

    A resample takes as many rows as there are, with replacement; its weights are the counts divided by the rows, and
    training and validation rows are resampled independently. All means over resamples are then one product with a
    matrix ``[rows, resamples]``, for any number of members at once; it takes ``4 * rows * resamples`` bytes. The same
    weights serve every epoch, member and run of a seed, so that their intervals differ only where the losses do.

    The interval is **conditional on the trained model**: it says how far the gap would move with other examples of the
    same kind, not with another seed or after training on another sample. Examples count as independent: where they
    come in groups, it is too narrow.

    train_rows, val_rows: at least 2. resamples: at least 2. level: coverage, between 0 and 1.
    Raises UserError for values outside. Source: Efron & Tibshirani (1993), An introduction to the bootstrap, ch. 13.
    """

    def __init__(
        self,
        train_rows: int,
        val_rows: int,
        resamples: int = 400,
        seed: int = 0,
        level: float = 0.95,
        device: torch.device | str = "cpu",
    ):
        if not 0 < level < 1:
            raise UserError(f"measure.level={level} must be between 0 and 1, such as 0.95")
        self.train = resampling_weights(train_rows, resamples, draws.key(seed, draws.name_number("gap/train")))
        self.val = resampling_weights(val_rows, resamples, draws.key(seed, draws.name_number("gap/val")))
        self.tails = torch.tensor([(1 - level) / 2, (1 + level) / 2])
        self.train, self.val, self.tails = (x.to(device) for x in (self.train, self.val, self.tails))

    def gap(self, train: Evaluation, val: Evaluation, task: Task) -> dict[str, Tensor]:
        """Return losses, scores and their gaps, positive where the model overfits.

        ``gap/loss = val/loss - train/loss`` and ``gap/<score> = train/<score> - val/<score>``, each with ``_low`` and
        ``_high``, the ends of its interval. ``val/loss_se`` is the standard error of the mean over examples,
        ``val/<score>_se`` that of the score, the standard deviation over the resamples.

        Shapes: 0-dim, or ``[members]`` where losses are ``[members, rows]`` and outputs ``[members, rows, ...]``.
        """
        return self.compare(_side(train, self.train, task), _side(val, self.val, task), task)

    def compare(self, train: Side, val: Side, task: Task) -> dict[str, Tensor]:
        """Return what ``gap`` does, of sides whose scores and resamples are known."""
        name = score_name(task)
        loss = {"train": train.losses.mean(-1), "val": val.losses.mean(-1)}
        resampled = torch.stack([val.loss_means - train.loss_means, train.score_means - val.score_means])
        low, high = resampled.quantile(self.tails.to(resampled.dtype), dim=-1)
        return {
            "train/loss": loss["train"],
            "val/loss": loss["val"],
            "val/loss_se": val.losses.std(-1) / val.losses.shape[-1] ** 0.5,
            "gap/loss": loss["val"] - loss["train"],
            "gap/loss_low": low[0],
            "gap/loss_high": high[0],
            f"train/{name}": train.score,
            f"val/{name}": val.score,
            f"val/{name}_se": val.score_means.std(-1),
            f"gap/{name}": train.score - val.score,
            f"gap/{name}_low": low[1],
            f"gap/{name}_high": high[1],
        }


def resampling_weights(rows: int, resamples: int, stream: Tensor) -> Tensor:
    """Return float32 weights ``[rows, resamples]``: how often each row was drawn, divided by the rows.

    Each column is multinomial(rows, 1/rows) and sums to 1. Drawn by counter, a pure function of the key ``stream``.
    """
    if rows < 2 or resamples < 2:
        raise UserError(f"a bootstrap needs at least 2 rows and 2 resamples, got {rows} rows and {resamples}")
    weights = torch.zeros(resamples, rows)
    one = torch.ones(())
    step = max(1, _CELLS // rows)
    for start in range(0, resamples, step):
        part = weights[start : start + step]
        counter = torch.arange(start * rows, (start + len(part)) * rows).view(len(part), rows)
        drawn = (((draws.bits(stream, counter) >> 32) & 0x7FFFFFFF) * rows) >> 31  # an integer in [0, rows)
        part.scatter_add_(1, drawn, one.expand(drawn.shape))
    return weights.div_(rows).t().contiguous()


def _side(evaluation: Evaluation, weights: Tensor, task: Task) -> Side:
    terms = score_terms(evaluation.outputs, evaluation.targets, task)
    terms = torch.cat([evaluation.losses.unsqueeze(-2), terms.to(evaluation.losses.dtype)], dim=-2)
    means = resampled_means(terms, weights)
    score = scores(evaluation.outputs, evaluation.targets, task)[score_name(task)]
    return Side(evaluation.losses, score, means[..., 0, :], score_of_means(means[..., 1:, :], task))
