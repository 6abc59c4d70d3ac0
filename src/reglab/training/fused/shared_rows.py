"""The training rows of all members, each stored once."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reglab.data import Part


@dataclass(frozen=True)
class Pool:
    """Rows of the distinct training parts of a pack, one part behind the other.

    targets, weights, index: ``[parts * rows]``, as in ``Part``. weights: None where every example counts 1.
    place: int64 ``[parts * rows]``, where a row's inputs lie in ``inputs``, which holds every example once; None where
    that is the row itself. part: which of the parts each member has. rows: of one part.
    """

    inputs: Tensor
    targets: Tensor
    weights: Tensor | None
    index: Tensor
    place: Tensor | None
    part: tuple[int, ...]
    rows: int

    @property
    def shared(self) -> bool:
        """Whether all members train on the same rows."""
        return len(set(self.part)) == 1

    def to(self, device: torch.device, dtype: torch.dtype) -> "Pool":
        """Return the pool on ``device``, what is real in ``dtype``."""

        def moved(values: Tensor | None) -> Tensor | None:
            return None if values is None else values.to(device, dtype if values.is_floating_point() else values.dtype)

        inputs, targets, index = moved(self.inputs), moved(self.targets), moved(self.index)
        assert inputs is not None
        assert targets is not None
        assert index is not None
        return Pool(inputs, targets, moved(self.weights), index, moved(self.place), self.part, self.rows)

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """Return inputs, targets, weights and index of ``rows``, int64 of any shape, which comes first in each."""
        flat = rows.reshape(-1)

        def chosen(values: Tensor, which: Tensor) -> Tensor:
            return values.index_select(0, which).reshape(*rows.shape, *values.shape[1:])

        place = flat if self.place is None else self.place.index_select(0, flat)
        weights = None if self.weights is None else chosen(self.weights, flat)
        return chosen(self.inputs, place), chosen(self.targets, flat), weights, chosen(self.index, flat)


def pool(parts: Sequence[Part], names: Sequence[str]) -> Pool:
    """Return the pool of the members' training ``parts``; parts of equal ``names`` (the data's digests) are one."""
    distinct = list(dict.fromkeys(names))
    chosen = [parts[names.index(name)] for name in distinct]
    index = torch.cat([part.index for part in chosen])
    inputs, place = _once(torch.cat([part.inputs for part in chosen]) if len(chosen) > 1 else chosen[0].inputs, index)
    weights = torch.cat([part.weights for part in chosen])
    return Pool(
        inputs,
        torch.cat([part.targets for part in chosen]),
        None if bool((weights == 1).all()) else weights,
        index,
        place,
        tuple(distinct.index(name) for name in names),
        len(chosen[0]),
    )


def _once(inputs: Tensor, index: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return the inputs without repeated examples, and where each row's lie; as they are where nothing repeats."""
    numbers, place = torch.unique(index, return_inverse=True)
    if len(numbers) == len(index):
        return inputs, None
    first = torch.empty(len(numbers), dtype=torch.int64)
    first[place] = torch.arange(len(index))
    examples = inputs[first]
    # Data that were prepared apart, as by another split, may scale one example differently.
    return (examples, place) if torch.equal(examples[place], inputs) else (inputs, None)
