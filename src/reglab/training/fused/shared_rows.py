"""Training data of a pack's members: distinct rows stored once, indexed per member."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reglab.data import Part


@dataclass(frozen=True)
class SharedRows:
    """Rows of the distinct training parts of a pack, one part behind the other.

    Args:
        targets, weights, index: ``[parts * rows]``, as in ``Part``.
        weights: None where every example counts 1.
        input_row: int64 ``[parts * rows]``, the index into ``inputs`` (which holds every example
            once) of each row; None where that is the row itself.
        part: Which of the parts each member has.
        rows: Of one part.
    """

    inputs: Tensor
    targets: Tensor
    weights: Tensor | None
    index: Tensor
    input_row: Tensor | None
    part: tuple[int, ...]
    rows: int

    @property
    def shared(self) -> bool:
        """Whether all members train on the same rows."""
        return len(set(self.part)) == 1

    def to(self, device: torch.device, dtype: torch.dtype) -> "SharedRows":
        """Return the rows on ``device``, what is real in ``dtype``."""

        def moved(values: Tensor | None) -> Tensor | None:
            return None if values is None else values.to(device, dtype if values.is_floating_point() else values.dtype)

        inputs, targets, index = moved(self.inputs), moved(self.targets), moved(self.index)
        assert inputs is not None
        assert targets is not None
        assert index is not None
        return SharedRows(inputs, targets, moved(self.weights), index, moved(self.input_row), self.part, self.rows)

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """Return inputs, targets, weights and index of ``rows``, int64 of any shape, which comes
        first in each.
        """
        flat = rows.reshape(-1)

        def chosen(values: Tensor, which: Tensor) -> Tensor:
            return values.index_select(0, which).reshape(*rows.shape, *values.shape[1:])

        input_row = flat if self.input_row is None else self.input_row.index_select(0, flat)
        weights = None if self.weights is None else chosen(self.weights, flat)
        return chosen(self.inputs, input_row), chosen(self.targets, flat), weights, chosen(self.index, flat)


def shared_rows(parts: Sequence[Part], names: Sequence[str]) -> SharedRows:
    """Return the rows of the members' training ``parts``; parts of equal ``names`` (the data's
    digests) are one.

    Args:
        parts: The training part of each member.
        names: A digest of each part; equal names are one part.
    """
    distinct = list(dict.fromkeys(names))
    chosen = [parts[names.index(name)] for name in distinct]
    index = torch.cat([part.index for part in chosen])
    inputs, input_row = _once(
        torch.cat([part.tensor for part in chosen]) if len(chosen) > 1 else chosen[0].tensor, index
    )
    weights = torch.cat([part.weights for part in chosen])
    return SharedRows(
        inputs,
        torch.cat([part.targets for part in chosen]),
        None if bool((weights == 1).all()) else weights,
        index,
        input_row,
        tuple(distinct.index(name) for name in names),
        len(chosen[0]),
    )


def _once(inputs: Tensor, index: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return the inputs without duplicates, and the index of each row's; unchanged without
    duplicates.
    """
    numbers, input_row = torch.unique(index, return_inverse=True)
    if len(numbers) == len(index):
        return inputs, None
    first = torch.empty(len(numbers), dtype=torch.int64)
    first[input_row] = torch.arange(len(index))
    examples = inputs[first]
    # Data that were prepared apart, as by another split, may scale one example differently.
    return (examples, input_row) if torch.equal(examples[input_row], inputs) else (inputs, None)
