"""Label noise: a known share of the training targets is replaced by wrong ones, and remembered."""

import torch
from torch import Tensor

from reglab.data.dataset import Task
from reglab.data.streams import stream
from reglab.rng import counter_rng


def corrupt(targets: Tensor, index: Tensor, task: Task, outputs: int, rate: float, seed: int) -> tuple[Tensor, Tensor]:
    """Replace the targets of ``round(rate * rows)`` rows by wrong ones.

    classification, binary: another class, uniformly (symmetric noise: a corrupted label is always
    wrong).
    multilabel: every label is flipped by a coin toss, and at least one is.
    regression: the target of another row, uniformly (so the targets keep their range).

    A higher rate corrupts the rows of a lower one too.

    Args:
        targets: [rows] or [rows, outputs].
        index: int64 [rows], the key of each row's draws.
        task: The task of the data set.
        outputs: Number of classes or labels.
        rate: Share of rows, from 0 to 1.
        seed: Seed of the draws, >= 0.

    Returns:
        The new targets, and bool [rows], which rows they are.

    Source:
        Natarajan et al. (2013), Learning with noisy labels; Zhang et al. (2017), Understanding deep
        learning requires rethinking generalization.
    """
    corrupted = torch.zeros(len(targets), dtype=torch.bool)
    corrupted[
        counter_rng.bits(stream(seed, "label_noise", "rows"), index).argsort(stable=True)[: round(rate * len(index))]
    ] = True
    wrong = _wrong_targets(targets, index, task, outputs, stream(seed, "label_noise", "targets"))
    chosen = corrupted if targets.ndim == 1 else corrupted[:, None]
    return torch.where(chosen, wrong, targets), corrupted


def _wrong_targets(targets: Tensor, index: Tensor, task: Task, outputs: int, key: Tensor) -> Tensor:
    """Return a wrong target for every row."""
    if task == "multilabel":
        toss = counter_rng.uniform(key, index[:, None] * outputs + torch.arange(outputs))
        flip = (toss < 0.5) | (toss == toss.min(dim=1, keepdim=True).values)
        return torch.where(flip, 1 - targets, targets)
    drawn = counter_rng.uniform(key, index).double()
    if task == "regression":
        others = len(targets) - 1
        steps = 1 + (drawn * others).long().clamp(max=max(others - 1, 0))
        return targets[(torch.arange(len(targets)) + steps) % len(targets)]
    if task == "binary":
        return 1 - targets
    return (targets + 1 + (drawn * (outputs - 1)).long()) % outputs
