"""Collectives over ranks: mean, gather, evaluation, agreement on signals.

All ranks call each of them, in the same order.
"""

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

from reglab.measures import Evaluation
from reglab.measures.evaluate import Batched, evaluation_mode, evaluation_of, one_tensor, rows_at_once
from reglab.tasks import Task


def mean_over_ranks(loss: Tensor) -> Tensor:
    """Return the mean of a loss of any shape over all ranks, with the gradient of this rank's own
    part.

    Data-parallel training averages gradients over ranks, so a nonlinear function of this mean gets,
    summed up, the gradient that one process would have on the joint batch.

    Args:
        loss: Any shape, the same on every rank.

    Returns:
        Same shape as ``loss``.
    """
    with torch.no_grad():
        total = loss.detach().clone()
        distributed.all_reduce(total)
        correction = total / distributed.get_world_size() - loss
    return loss + correction


def gathered(part: Tensor, sizes: Sequence[int], group: distributed.ProcessGroup | None = None) -> Tensor:
    """All-gather ``part`` [its size, ...] and concatenate in the order of the ranks.

    Args:
        sizes: The length of each rank's part, the same list on every rank.
    """
    most = max(sizes)
    padded = functional.pad(part, [0, 0] * (part.dim() - 1) + [0, most - len(part)]).contiguous()
    joint = [torch.empty_like(padded) for _ in sizes]
    distributed.all_gather(joint, padded, group=group)
    return torch.cat([whole[:size] for whole, size in zip(joint, sizes, strict=True)])


def interleaved(parts: Sequence[Tensor]) -> list[Tensor]:
    """Gather the tensors of all ranks: the first of each rank in the ranks' order, then the second
    of each, and so on.

    Args:
        parts: ``[any length, ...]``, equally many on every rank, at least one with rows on one of
            them.
    """
    ranks = distributed.get_world_size()
    lengths: list[list[int]] = [[] for _ in range(ranks)]
    distributed.all_gather_object(lengths, [len(part) for part in parts])
    totals = [sum(each) for each in lengths]
    whole = torch.split(gathered(torch.cat(list(parts)), totals), totals)
    by_rank = [torch.split(joint, each) for joint, each in zip(whole, lengths, strict=True)]
    return [by_rank[rank][number] for number in range(len(parts)) for rank in range(ranks)]


def evaluate_on_all_ranks(model: nn.Module, inputs: Tensor | Batched, targets: Tensor, task: Task | str) -> Evaluation:
    """Like ``measures.evaluate``, with the rows split among ranks and the results gathered on all.

    Args:
        model: Any module that maps ``inputs`` to one tensor.
        inputs: ``[rows, ...]``, the same on every rank, or read batch by batch, of which a rank
            reads its share.
        targets: ``[rows, ...]``, the same on every rank.
        task: Which decides the loss.

    Returns:
        Losses and outputs of all rows, on every rank.
    """
    ranks, rank, outputs = distributed.get_world_size(), distributed.get_rank(), []
    joint = ranks * rows_at_once(inputs, _ROWS)
    parts = [rows.tensor_split(ranks) for rows in torch.split(torch.arange(len(inputs)), joint)]
    # All ranks compute equally often, which sharded weights need.
    own = [part[rank] if len(part[rank]) else part[0][:1] for part in parts]
    batches = (inputs[rows[0] : rows[-1] + 1] for rows in own) if isinstance(inputs, Tensor) else inputs.read(own)
    with evaluation_mode(model), torch.no_grad():
        for part, batch in zip(parts, batches, strict=True):
            sizes = [len(rows) for rows in part]
            outputs.append(gathered(one_tensor(model(batch), model)[: sizes[rank]], sizes))
    return evaluation_of(torch.cat(outputs), targets, task)


class SignalAgreement:
    """Lets all ranks end after the same step when any of them received a signal.

    They ask each other between steps, on the host, so that no device is waited for; not after each
    of many short ones, but every quarter of a second, by the clock of the slowest.
    """

    def __init__(self, ranks: int, local_signal: Callable[[], int | None]) -> None:
        self._local_signal = local_signal
        self._ranks = ranks
        on_hosts = ranks == 1 or distributed.get_backend() == "gloo"
        self._group = None if on_hosts else distributed.new_group(backend="gloo")
        self._left = 1  # steps until the next time
        self._steps = 0
        self._since = time.monotonic()

    def agreed_signal(self, last: bool) -> int | None:
        """Return the number of the signal that came, None if none did.

        Args:
            last: No step follows before the other ranks ask.
        """
        if self._ranks == 1:
            return self._local_signal()
        self._left -= 1
        self._steps += 1
        if self._left > 0 and not last:
            return None
        reduced = torch.tensor([float(self._local_signal() or 0), (time.monotonic() - self._since) / self._steps])
        distributed.all_reduce(reduced, op=distributed.ReduceOp.MAX, group=self._group)
        self._left = max(1, int(_BETWEEN / max(float(reduced[1]), 1e-6)))
        self._steps, self._since = 0, time.monotonic()
        return int(reduced[0]) or None


_BETWEEN = 0.25  # seconds
_ROWS = 1024  # that a rank computes at one time
