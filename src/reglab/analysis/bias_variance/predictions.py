"""Predictions of a setting's runs on the rows that all of them were validated on."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from reglab.analysis.bias_variance.pairs import Factors, Floats, Integers, varying
from reglab.analysis.per_example_file import Examples
from reglab.analysis.trial import Candidate
from reglab.core.errors import UserError

SAMPLE, INITIAL, SEED = "training sample", "initial weights", "seed"  # of data.replica, init_seed, seed
TASKS = ("regression", "classification", "binary", "multilabel")
_TOLERANCE = 1e-3  # relative, of a float32 loss computed again


@dataclass(frozen=True)
class Predictions:
    """What the runs of a setting predict, in float64.

    Attributes:
        task: One of ``TASKS``.
        outputs: ``[runs, rows, columns]``, the model's outputs.
        targets: ``[rows, columns]``, or class numbers ``[rows]`` of a classification.
        expected: Targets without noise, where a generator knows them.
        weights: Of the rows; None: all 1.
        index: int64 ``[rows]``, the rows' numbers in the data set.
        levels: What made the runs differ: name -> the level of each run, as text.
    """

    task: str
    outputs: Floats
    targets: Floats | Integers
    expected: Floats | None
    weights: Floats | None
    index: Integers
    levels: Mapping[str, tuple[str, ...]]

    @property
    def factors(self) -> Factors:
        """The levels that vary, as numbers."""
        return varying(self.levels)

    def log_probabilities(self) -> tuple[Floats, Integers]:
        """Return log p ``[runs, rows, columns, classes]`` and class numbers ``[rows, columns]``."""
        if self.task == "classification":
            return log_softmax(self.outputs, axis=-1)[:, :, None], self.targets.astype(np.int64)[:, None]
        both = np.stack([-np.logaddexp(0, self.outputs), -np.logaddexp(0, -self.outputs)], axis=-1)
        return both, self.targets.reshape(self.outputs.shape[1:]).astype(np.int64)

    def losses(self) -> Floats:
        """Return the loss of each run on each row, ``[runs, rows]``."""
        if self.task == "regression":
            return np.asarray(((self.outputs - self.targets) ** 2).mean(-1))
        log_probabilities, classes = self.log_probabilities()
        return np.asarray(-np.take_along_axis(log_probabilities, classes[None, ..., None], -1)[..., 0].mean(-1))


def predictions(candidate: Candidate, results: Mapping[str, Examples], task: str) -> Predictions:
    """Return the predictions of a candidate's runs.

    Args:
        candidate: The setting.
        results: Per-example results by run id, with outputs.
        task: Of the data.

    Raises:
        UserError: They have no decomposition, or too few runs have been trained.
    """
    if task not in TASKS:
        raise UserError(
            f"bias and variance are told apart for squared error and cross-entropy ({', '.join(TASKS)}), and the task "
            f"is {task or 'unknown'}"
        )
    kept = [results.get(trial.run_id) for trial in candidate.trials]
    found = [each for each in kept if each is not None and each.val_outputs is not None]
    if len(found) < len(kept):
        raise UserError(
            f"{candidate.label}: {len(kept) - len(found)} of {len(kept)} runs have no outputs, which are kept where "
            "they are at most a million numbers: validate on fewer rows (data.val_size)"
        )
    first = found[0]
    if any(not np.array_equal(each.val_index, first.val_index) for each in found):
        raise UserError(
            f"{candidate.label}: its runs were validated on different rows; bias and variance need the same ones: "
            "leave out data.split_seed and data.fold"
        )
    targets = np.asarray(first.val_targets)
    answers = Predictions(
        task=task,
        outputs=_columns(np.stack([np.asarray(each.val_outputs) for each in found]).astype(np.float64), 3),
        targets=targets.astype(np.int64) if task == "classification" else _columns(targets.astype(np.float64), 2),
        expected=None if first.val_expected is None else _columns(first.val_expected.astype(np.float64), 2),
        weights=None if first.val_weight is None else first.val_weight.astype(np.float64),
        index=first.val_index,
        levels={
            SAMPLE: tuple(trial.params.get("data.replica", "") for trial in candidate.trials),
            INITIAL: tuple(trial.params.get("init_seed", "") for trial in candidate.trials),
            SEED: tuple(str(trial.seed) for trial in candidate.trials),
        },
    )
    _check(answers, np.stack([each.val_loss for each in found]), candidate)
    return answers


def _check(answers: Predictions, losses: NDArray[np.floating], candidate: Candidate) -> None:
    if "" in answers.levels[SAMPLE] or len(set(answers.levels[SAMPLE])) < 2:
        raise UserError(
            f"{candidate.label}: the runs have one training sample, and variance needs several: "
            "data.replicas=20 'data.replica=range(20)'"
        )
    if not np.allclose(answers.losses(), losses, rtol=_TOLERANCE, atol=_TOLERANCE * float(np.abs(losses).mean())):
        raise UserError(
            f"{candidate.label}: its loss is not the {answers.task}'s own, of which alone bias and variance are known: "
            "leave out loss="
        )


def _array(values: NDArray[np.generic] | None) -> NDArray[np.generic]:
    assert values is not None
    return values


def _columns(values: Floats, axes: int) -> Floats:
    """Return values with one axis of columns behind the rows."""
    return values.reshape(*values.shape[: axes - 1], -1)
