"""Training rows on the device, cut into the microbatches of an optimizer step."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from reglab.data import Part, Rows
from reglab.regularizers import Batch
from reglab.regularizers.base import unit_weight
from reglab.training.gradient import Microbatch
from reglab.training.loader import Share, share


class Microbatches:
    """Cuts the rows of an optimizer step into microbatches, and takes this rank's share of each.

    Args:
        part: The training rows.
        device: That trains.
        dtype: Of the weights.
        rank: Of this process.
        ranks: How many there are.
        batch_size: Rows of a microbatch, on all ranks.
        accumulate: Microbatches of a step.
        least: Rows that a microbatch has at least, on all ranks.
    """

    def __init__(
        self,
        part: Part,
        device: torch.device,
        dtype: torch.dtype,
        *,
        rank: int = 0,
        ranks: int = 1,
        batch_size: int = 1,
        accumulate: int = 1,
        least: int = 2,
    ) -> None:
        part = part.to(device)
        self._inputs = Inputs(part.inputs, device, dtype)
        self.targets = cast_floating(part.targets, dtype)
        self.index = part.index
        self._weights = None if bool((part.weights == 1).all()) else part.weights.to(dtype)
        self._one = unit_weight(dtype, device)
        self._rank, self._ranks = rank, ranks
        self._batch_size, self._accumulate, self._least = batch_size, accumulate, least

    def of(self, rows: Tensor) -> list[Microbatch]:
        """Return the microbatches of a step: fewer of a short one, so that BatchNorm has two rows
        in each (on each rank).

        Args:
            rows: int64 ``[rows]``.
        """
        if self._accumulate == 1 and self._ranks == 1:
            return [self._microbatch(Share(rows, 1.0))]
        return [self._microbatch(each) for each in self._shares(rows)]

    def read_ahead(self, steps: Iterable[Tensor]) -> None:
        """Let streamed inputs be read before they are asked for.

        Args:
            steps: The rows of each step that ``of`` will be called for, in this order.
        """
        self._inputs.read_ahead(local.rows for rows in steps for local in self._shares(rows))

    def close(self) -> None:
        """End what reads ahead."""
        self._inputs.close()

    def on_rank(self, rows: Tensor) -> Microbatch:
        """Return this rank's share of rows, which need not be those of the next step."""
        return self._microbatch(share(rows, self._rank, self._ranks))

    def _shares(self, rows: Tensor) -> Iterator[Share]:
        count = rows.shape[0]
        microbatches = max(1, min(self._accumulate, -(-count // self._batch_size), count // self._least))
        # By microbatch first, so that it is the same on any number of ranks.
        for number in range(microbatches):
            joint, factor = share(rows, number, microbatches)
            local_rows, share_of_rows = share(joint, self._rank, self._ranks)
            yield Share(local_rows, factor * share_of_rows)

    def _microbatch(self, local: Share) -> Microbatch:
        rows, factor = local
        weight = self._one if self._weights is None else self._weights.index_select(0, rows)
        targets = [(weight if factor == 1 else weight * factor, self.targets.index_select(0, rows))]
        return Microbatch(Batch(self._inputs.batch(rows), targets, self.index.index_select(0, rows)), factor == 0)


class Inputs:
    """Inputs of the training rows: a tensor on the device, or streamed.

    Args:
        rows: All inputs, a tensor on ``device`` already.
        device: That trains.
        dtype: Of the weights.
    """

    def __init__(self, rows: Tensor | Rows, device: torch.device, dtype: torch.dtype) -> None:
        self._device, self._dtype = device, dtype
        self._tensor = cast_floating(rows, dtype) if isinstance(rows, Tensor) else None
        self._streamed = None if isinstance(rows, Tensor) else rows
        self._ahead: Iterator[Tensor] | None = None

    def read_ahead(self, batches: Iterable[Tensor]) -> None:
        """Read the rows of ``batches``, int64 ``[rows]``, which are asked for in this order."""
        if self._streamed is not None:
            self._ahead = self._streamed.read(batches, self._device)

    def close(self) -> None:
        """End what reads ahead, and its processes."""
        self._ahead = None

    def batch(self, rows: Tensor) -> Tensor:
        """Return the inputs of ``rows``, int64 ``[rows]``: the next batch, if any is read ahead."""
        if self._tensor is not None:
            return self._tensor.index_select(0, rows)
        assert self._streamed is not None
        inputs = self._streamed.batch(rows, self._device) if self._ahead is None else next(self._ahead)
        assert len(inputs) == rows.shape[0]
        return cast_floating(inputs, self._dtype)


def cast_floating(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Return ``values`` in ``dtype`` where they are floating-point numbers, else as they are."""
    return values.to(dtype) if values.is_floating_point() else values
