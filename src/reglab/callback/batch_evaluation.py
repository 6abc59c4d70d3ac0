"""Evaluate a user's module batch by batch: its own loss, and what its task says of its outputs."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor, distributed

from reglab.callback.dataloader_rows import Unpack, pair_of, wide_labels
from reglab.callback.fixed_batches import FixedBatches, fixed_seeds, rows_in
from reglab.core.errors import UserError
from reglab.distributed.collectives import interleaved
from reglab.measures import Evaluation, Task
from reglab.measures.evaluate import evaluation_mode, evaluation_of, one_tensor

OwnLoss = Callable[[pl.LightningModule, Any], Any]
"""``(module, batch) -> losses [rows]``, or one loss of the batch, 0-dim, or a dict with one as
``loss``.
"""


class Asked(NamedTuple):
    """What is measured of a module on a batch.

    Args:
        task: Of the outputs; None where they are not judged by one.
        unpack: Gives inputs and targets of a batch.
        loss: A user's own; None for the task's.
    """

    task: Task | None
    unpack: Unpack
    loss: OwnLoss | None = None

    @property
    def unpacks(self) -> bool:
        """Whether inputs and targets of a batch are wanted."""
        return self.task is not None


class BatchEvaluation(NamedTuple):
    """What a module did on the rows of one side of a gap.

    Args:
        outputs: By the task; None without one.
        losses: By the own loss, ``[rows]``; None where there is none, or one a batch.
        loss: Their mean, 0-dim; None without an own loss.
    """

    outputs: Evaluation | None
    losses: Tensor | None
    loss: Tensor | None


def evaluate_batches(module: pl.LightningModule, batches: FixedBatches, asked: Asked) -> BatchEvaluation:
    """Evaluate ``module`` on batches, in evaluation mode, without gradients, with fixed random
    seeds.

    Where there are several ranks, each computes a part of the batches, and all have every answer.

    Args:
        module: A user's.
        batches: Of one side.
        asked: What is measured.

    Raises:
        UserError: If the loss gives something else than losses of the rows.
    """
    ranks, rank = (distributed.get_world_size(), distributed.get_rank()) if _distributed() else (1, 0)
    losses, outputs, targets, sizes = [], [], [], []
    with evaluation_mode(module), torch.no_grad(), fixed_seeds(), _without_log(module):
        for batch, rows in batches.of_rank(rank, ranks):
            sizes.append(rows)
            if asked.loss is not None:
                losses.append(own_losses(asked.loss(module, batch), batch, rows or rows_in(batch)))
            if asked.unpacks:
                inputs, wanted = pair_of(batch, asked.unpack)
                outputs.append(one_tensor(module(inputs), module)[:rows])
                targets.append(wanted[:rows])
    evaluation = None
    if asked.task is not None:
        joint = [_gathered(parts, ranks)[: batches.wanted] for parts in (outputs, targets)]
        evaluation = evaluation_of(joint[0], wide_labels(joint[1], asked.task), asked.task)
    return BatchEvaluation(evaluation, *_own(losses, sizes, batches, ranks))


def own_losses(value: Any, batch: Any, rows: int) -> Tensor:
    """Return what a user's loss gave, in at least float32: ``[rows]`` or 0-dim.

    Args:
        value: Losses, or a dict with them as ``loss``, as ``training_step`` may return it.
        batch: That it was given.
        rows: Of the batch.

    Raises:
        UserError: For anything else.
    """
    losses = value.get("loss") if isinstance(value, Mapping) else value
    if isinstance(losses, Tensor) and losses.is_floating_point():
        if losses.dim() == 0 or (losses.dim() == 1 and len(losses) in (rows, rows_in(batch))):
            return losses.detach().float() if losses.dtype.itemsize < 4 else losses.detach()
        losses = f"a tensor of shape {list(losses.shape)}"
    raise UserError(
        f"loss gave {losses} for a batch of {rows} rows; let it give one loss for each row, [{rows}] (of a sequence "
        "or an image its mean), or one for the whole batch, 0-dim"
    )


def _own(
    losses: list[Tensor], sizes: list[int], batches: FixedBatches, ranks: int
) -> tuple[Tensor | None, Tensor | None]:
    """Return the losses of all rows, None where there is one a batch, and their mean."""
    if not losses:
        return None, None
    if losses[0].dim():
        kept = [each[: len(each) if rows else 0] for each, rows in zip(losses, sizes, strict=True)]
        every = _gathered(kept, ranks)[: batches.wanted]
        return every, every.mean()
    values = _gathered([loss.reshape(1) for loss in losses], ranks)
    weights = _gathered([torch.tensor([rows], device=values.device) for rows in sizes], ranks).to(values.dtype)
    return None, (values * weights).sum() / weights.sum()


def _gathered(parts: list[Tensor], ranks: int) -> Tensor:
    return torch.cat(interleaved(parts) if ranks > 1 else parts)


def _distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized()


@contextmanager
def _without_log(module: pl.LightningModule) -> Iterator[None]:
    """Let ``self.log`` do nothing in a step of the user's that is called as the loss."""
    own = {"log": module.__dict__["log"]} if "log" in module.__dict__ else {}
    module.__dict__["log"] = lambda *_, **__: None
    try:
        yield
    finally:
        del module.__dict__["log"]
        module.__dict__.update(own)
