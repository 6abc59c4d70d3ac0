"""From the per-example results that a run keeps to numbers that can be paired with another run's."""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reglab.examples import Examples
from reglab.sweeps.paired import Array, Scored

_RESAMPLES = 400


class Side(NamedTuple):
    """What some predictor reached on the validation rows.

    Attributes:
        rows: Their numbers, ``[rows]``.
        loss: ``[rows]``.
        score: The terms that the score is made of, ``[terms, rows]``.
    """

    rows: NDArray[np.int64]
    loss: NDArray[np.floating]
    score: NDArray[np.floating]


Reader = Callable[[Side], Scored]
"""From one predictor's results to its monitored value, as a number to be minimized."""


def val(results: Examples) -> Side:
    """Return what a run's model reached."""
    return Side(results.val_index, results.val_loss, results.val_score)


def constant(results: Examples) -> Side | None:
    """Return what the constant predictor reaches on a run's validation rows; None where it is not recorded.

    It predicts for every row what is best without looking at it: the classes' shares, or the targets' mean, in the
    training part.
    """
    if results.val_constant_loss is None or results.val_constant_score is None:
        return None
    return Side(results.val_index, results.val_constant_loss, results.val_constant_score)


def loss(side: Side) -> Scored:
    """Return the loss."""
    return of_rows(side.rows, side.loss)


def accuracy(side: Side) -> Scored:
    """Return minus the accuracy."""
    return of_rows(side.rows, -side.score[0])


def r2(side: Side) -> Scored:
    """Return minus R², which is no mean over the rows, with its values in bootstrap resamples of them.

    ``R2 = 1 - mean (output - target)^2 / (mean target^2 - (mean target)^2)``, the mean over output columns.
    """
    terms = side.score.astype(np.float64)
    every = _r2(terms.mean(-1)[:, None])
    drawn = _r2(terms @ resamples(terms.shape[-1]))
    return Scored(("",), side.rows, -every, -drawn[None], resampled=True)


def gap(results: Examples) -> Scored:
    """Return the gap in loss, ``mean val_loss - mean probe_loss``.

    Its noise is that of two independent samples; the probe's is smaller by the share of the training part that it is,
    ``1 - probe / train``, since the training side is the mean over the actual training part.
    """
    val, probe = (np.asarray(one, np.float64) for one in (results.val_loss, results.probe_loss))
    count = len(val) + len(probe) - 1
    unseen = 1.0 if results.train_rows is None else max(0.0, 1 - len(probe) / int(results.train_rows))
    noise = np.concatenate(
        [
            (val - val.mean()) * (math.sqrt(count) / len(val)),
            (probe - probe.mean()) * (math.sqrt(count * unseen) / len(probe)),
        ]
    )
    rows = np.concatenate([results.val_index, -1 - results.probe_index])
    return Scored(("",), rows, np.array([val.mean() - probe.mean()]), noise[None], resampled=True)


READERS: dict[str, Reader] = {"val/loss": loss, "val/accuracy": accuracy, "val/r2": r2}


def of_rows(rows: NDArray[np.int64], terms: NDArray[np.floating]) -> Scored:
    """Return a mean over rows."""
    noise = terms.astype(np.float64)
    return Scored(("",), rows, np.array([noise.mean()]), noise[None])


@lru_cache(maxsize=4)
def resamples(rows: int) -> Array:
    """Return the weights of ``rows`` rows in resamples with replacement, ``[rows, resamples]``: the same for all."""
    draw = np.random.default_rng(rows)
    weights: Array = draw.multinomial(rows, np.full(rows, 1 / rows), _RESAMPLES).T / rows
    return weights


def _r2(means: Array) -> Array:
    residual, first, second = np.moveaxis(means.reshape(-1, 3, means.shape[-1]), 1, 0)
    spread = second - first**2
    constant = spread < 1e-6  # of targets of variance 1: a resample of equal rows, up to rounding
    found: Array = np.where(constant, 0.0, 1 - residual / np.where(constant, 1.0, spread)).mean(0)
    return found
