"""Label noise: a known share of the training targets is replaced by wrong ones, and remembered."""

import torch
from torch import Tensor

from reglab.data.streams import stream
from reglab.rng import counter_rng
from reglab.tasks import task_named


def corrupt(targets: Tensor, index: Tensor, task: str, outputs: int, rate: float, seed: int) -> tuple[Tensor, Tensor]:
    """Replace the targets of ``round(rate * rows)`` rows by wrong ones, see ``Task.wrong_targets``.

    classification, binary: another class, uniformly (symmetric noise: a corrupted label is always
    wrong).
    multilabel: every label is flipped by a coin toss, and at least one is.
    Any other task: the target of another row, uniformly (so the targets keep their range).

    A higher rate corrupts the rows of a lower one too.

    Args:
        targets: [rows, ...].
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
    wrong = task_named(task).wrong_targets(targets, index, outputs, stream(seed, "label_noise", "targets"))
    chosen = corrupted.reshape(-1, *(1 for _ in targets.shape[1:]))
    return torch.where(chosen, wrong, targets), corrupted
