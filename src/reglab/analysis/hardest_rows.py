"""The validation rows that a setting's runs find hardest."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reglab.analysis.per_example_file import Examples

_TENTH = 0.1


@dataclass(frozen=True)
class HardRow:
    """A row.

    Attributes:
        index: Its number in the whole data set, from 0.
        loss: Its mean over runs.
        missed: In how many runs its score is 0, such as a class that is not recognized.
        runs: In how many it is a validation row.
    """

    index: int
    loss: float
    missed: int
    runs: int


def hardest_rows(results: Sequence[Examples], count: int = 10) -> list[HardRow]:
    """Return the rows with the highest mean loss over runs, the hardest first.

    Args:
        results: Of the runs; a row counts in those in which it is a validation row.
        count: The most rows to return.

    Example:
        >>> from reglab.analysis.per_example_file import Examples
        >>> rows, loss = np.array([7, 9]), np.array([0.5, 2.0])
        >>> run = Examples(rows, loss, np.array([1.0, 0.0]), rows, loss, loss)
        >>> hardest_rows([run, run], count=1)
        [HardRow(index=9, loss=2.0, missed=2, runs=2)]
    """
    index = np.concatenate([run.val_index for run in results])
    rows, inverse = np.unique(index, return_inverse=True)
    runs = np.bincount(inverse)
    loss = np.bincount(inverse, np.concatenate([run.val_loss for run in results]).astype(np.float64)) / runs
    missed = np.bincount(inverse, np.concatenate([run.val_score for run in results]) == 0)
    order = np.lexsort((rows, -loss))[:count]
    return [HardRow(int(rows[at]), float(loss[at]), int(missed[at]), int(runs[at])) for at in order]


def share_of_hardest(results: Sequence[Examples]) -> float | None:
    """Return what share of the validation loss the hardest tenth of the rows carries.

    In each half of the runs it is the tenth that is hardest in the other half: the rows that are the
    hardest of the same runs are so by luck, too, and their share would be too large.

    Args:
        results: Of the runs.

    Returns:
        The share; None for fewer than two runs, for runs on different rows, and for fewer than 20 rows.
    """
    rows = results[0].val_index if results else np.array([])
    same = all(np.array_equal(run.val_index, rows) for run in results)
    if len(results) < 2 or not same or len(rows) < 20:
        return None
    losses = np.array([run.val_loss for run in results], dtype=np.float64)
    halves = losses[::2].mean(0), losses[1::2].mean(0)
    shares = [_carried(halves[0], by=halves[1]), _carried(halves[1], by=halves[0])]
    return float(np.mean(shares))


def _carried(loss: NDArray[np.float64], by: NDArray[np.float64]) -> float:
    hardest = np.argsort(-by, kind="stable")[: round(_TENTH * len(by))]
    total = loss.sum()
    return float(loss[hardest].sum() / total) if total > 0 else 0.0
