"""Evaluate a user's module batch by batch: its own loss, and what its task says of its outputs."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed, nn

from reglab.callback.dataloader_rows import Unpack, pair_of, wide_labels
from reglab.callback.fixed_batches import FixedBatches, fixed_seeds, rows_in
from reglab.callback.own_scores import MetricOrFunction, ScoresOfSide
from reglab.core.errors import UserError
from reglab.distributed.collectives import interleaved
from reglab.measures import Evaluation
from reglab.measures.evaluate import evaluation_mode, evaluation_of, one_tensor
from reglab.tasks import Task

BatchLoss = Callable[[Any, Any], Any]
"""``(module, batch) -> losses [rows]``, or one loss of the batch, 0-dim, or a dict with one as
``loss``.
"""


class Asked(NamedTuple):
    """What is measured of a module on a batch.

    Args:
        task: Of the outputs; None where they are not judged by one.
        unpack: Gives inputs and targets of a batch.
        loss: A user's own; None for the task's.
        scores: The user's own, by name.
        predict: Gives outputs and targets of a batch by itself; None: ``module(inputs)``.
    """

    task: Task | None
    unpack: Unpack
    loss: BatchLoss | None = None
    scores: Mapping[str, MetricOrFunction] = MappingProxyType({})
    predict: Callable[[Any, Any], tuple[Tensor, Tensor]] | None = None


class BatchEvaluation(NamedTuple):
    """What a module did on the rows of one side of a gap.

    Args:
        outputs: By the task; None without one.
        losses: By the own loss, ``[rows]``; None where there is none, or one a batch.
        loss: Their mean, 0-dim; None without an own loss.
        scores: The own scores, 0-dim or ``[rows]``.
    """

    outputs: Evaluation | None
    losses: Tensor | None
    loss: Tensor | None
    scores: Mapping[str, Tensor]


def evaluate_batches(module: nn.Module, batches: FixedBatches, asked: Asked) -> BatchEvaluation:
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
    losses: list[Tensor] = []
    sizes: list[int] = []
    with evaluation_mode(module), torch.no_grad(), fixed_seeds(), without_log(module):
        outputs = _Outputs(module, asked)
        for batch, rows in batches.of_rank(rank, ranks):
            sizes.append(rows)
            if asked.loss is not None:
                losses.append(own_losses(asked.loss(module, batch), batch, rows or rows_in(batch)))
            outputs.add(batch, rows, batches.unpacked)
        joint, targets = outputs.gathered(ranks, batches.wanted)
        scores = outputs.scores.compute(joint, targets)
    evaluation = None
    if asked.task is not None and joint is not None and targets is not None:
        evaluation = evaluation_of(joint, targets, asked.task)
    return BatchEvaluation(evaluation, *_own(losses, sizes, batches, ranks), scores)


class _Outputs:
    """Outputs of a module and targets, as far as a task or a score asks for them."""

    def __init__(self, module: nn.Module, asked: Asked) -> None:
        self._module, self._asked = module, asked
        self.scores = ScoresOfSide(asked.scores, next(module.parameters()).device)
        self._keeps = asked.task is not None or self.scores.need_all
        self._outputs: list[Tensor] = []
        self._targets: list[Tensor] = []

    def add(self, batch: Any, rows: int, unpacked: bool) -> None:
        """Compute the outputs of a batch, the first ``rows`` of which count."""
        if self._asked.task is None and not self._asked.scores:
            return
        if self._asked.predict is not None:
            outputs, targets = self._asked.predict(self._module, batch)
        else:
            inputs, targets = batch if unpacked else pair_of(batch, self._asked.unpack)
            outputs = one_tensor(self._module(inputs), self._module)
        targets = wide_labels(targets, self._asked.task)
        outputs = outputs.float() if outputs.is_floating_point() and outputs.dtype.itemsize < 4 else outputs
        self.scores.add(outputs[:rows], targets[:rows])
        if self._keeps:
            self._outputs.append(outputs[:rows])
            self._targets.append(targets[:rows])

    def gathered(self, ranks: int, wanted: int | None) -> tuple[Tensor | None, Tensor | None]:
        """Return outputs and targets of all rows; None where they are not kept."""
        if not self._keeps:
            return None, None
        return _gathered(self._outputs, ranks)[:wanted], _gathered(self._targets, ranks)[:wanted]


def own_losses(value: Any, batch: Any, rows: int) -> Tensor:
    """Return what a user's loss gave, in at least float32: ``[rows]`` or 0-dim.

    Args:
        value: Losses, or a dict with them as ``loss``, as ``training_step`` may return it.
        batch: That it was given.
        rows: Of the batch; 0 where that is not known.

    Raises:
        UserError: For anything else.
    """
    losses = value.get("loss") if isinstance(value, Mapping) else value
    if isinstance(losses, Tensor) and losses.is_floating_point():
        known = {rows, rows_in(batch)} - {0}  # of a batch without tensors neither may be
        if losses.dim() == 0 or (losses.dim() == 1 and (len(losses) in known or not known)):
            return losses.float() if losses.dtype.itemsize < 4 else losses
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
def without_log(module: nn.Module) -> Iterator[None]:
    """Let ``self.log`` do nothing in a step of the user's that is called as the loss."""
    own = {"log": module.__dict__["log"]} if "log" in module.__dict__ else {}
    module.__dict__["log"] = lambda *_, **__: None
    try:
        yield
    finally:
        del module.__dict__["log"]
        module.__dict__.update(own)
