"""Training rows on the device, cut into the microbatches of an optimizer step."""

import torch
from torch import Tensor

from reglab.data import Part
from reglab.regularizers import Batch
from reglab.regularizers.base import unit_weight
from reglab.training.gradient import Microbatch
from reglab.training.loader import share


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
        self.inputs, self.targets = (cast_floating(values, dtype) for values in (part.inputs, part.targets))
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
            return [self._microbatch(rows, 1.0)]
        count = rows.shape[0]
        microbatches = max(1, min(self._accumulate, -(-count // self._batch_size), count // self._least))
        # By microbatch first, so that it is the same on any number of ranks.
        shares = [share(rows, number, microbatches) for number in range(microbatches)]
        return [self.on_rank(joint, factor) for joint, factor in shares]

    def on_rank(self, rows: Tensor, factor: float = 1.0) -> Microbatch:
        """Return this rank's share of rows that count ``factor`` in the mean over a step."""
        local_rows, share_of_rows = share(rows, self._rank, self._ranks)
        return self._microbatch(local_rows, factor * share_of_rows)

    def _microbatch(self, rows: Tensor, factor: float) -> Microbatch:
        weight = self._one if self._weights is None else self._weights.index_select(0, rows)
        targets = [(weight if factor == 1 else weight * factor, self.targets.index_select(0, rows))]
        return Microbatch(
            Batch(self.inputs.index_select(0, rows), targets, self.index.index_select(0, rows)), factor == 0
        )


def cast_floating(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Return ``values`` in ``dtype`` where they are floating-point numbers, else as they are."""
    return values.to(dtype) if values.is_floating_point() else values
