"""Training data of a pack's members: distinct rows stored once, indexed per member."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reglab.data import Part, Rows
from reglab.training.experiment import Experiment


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
        sources: What reads streamed inputs, of which ``inputs`` and ``input_row`` then hold those
            of a step (see ``Window``); empty where all are in memory.
        sources_of_parts: Which of them each part has.
    """

    inputs: Tensor
    targets: Tensor
    weights: Tensor | None
    index: Tensor
    input_row: Tensor | None
    part: tuple[int, ...]
    rows: int
    sources: tuple[Rows, ...] = ()
    sources_of_parts: tuple[int, ...] = ()

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
        weights, input_row = moved(self.weights), moved(self.input_row)
        return replace(self, inputs=inputs, targets=targets, weights=weights, index=index, input_row=input_row)

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


def shared_rows_of(experiments: Sequence[Experiment], seeds: Sequence[int]) -> SharedRows:
    """Return the training rows of the jobs of a pack.

    Args:
        experiments: The jobs.
        seeds: Of each job's order.
    """
    parts, names = [job.data.train for job in experiments], [job.data.digest for job in experiments]
    orders, batch = len(set(zip(seeds, names, strict=True))), experiments[0].recipe.batch_size
    return shared_rows(parts, names, window=orders * min(batch + 1, len(parts[0])))  # a single row joins a batch


def shared_rows(parts: Sequence[Part], names: Sequence[str], window: int = 0) -> SharedRows:
    """Return the rows of the members' training ``parts``; parts of equal ``names`` (the data's
    digests) are one.

    Args:
        parts: The training part of each member.
        names: A digest of each part; equal names are one part.
        window: Rows of streamed inputs that a step of one order needs.
    """
    distinct = list(dict.fromkeys(names))
    chosen = [parts[names.index(name)] for name in distinct]
    index = torch.cat([part.index for part in chosen])
    sources, sources_of_parts = _sources([part.inputs for part in chosen])
    input_row: Tensor | None
    if sources:
        inputs = torch.zeros((window, *sources[0].shape[1:]), dtype=sources[0].dtype)
        input_row = torch.zeros(len(index), dtype=torch.int64)
    else:
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
        sources,
        sources_of_parts,
    )


def _sources(inputs: Sequence[Tensor | Rows]) -> tuple[tuple[Rows, ...], tuple[int, ...]]:
    """Return what reads the streamed ones among ``inputs``, the same rows once, and which each has."""
    streamed = [each for each in inputs if not isinstance(each, Tensor)]
    named = {each.identity() or id(each): each for each in reversed(streamed)}
    numbers = {name: number for number, name in enumerate(named)}
    return tuple(named.values()), tuple(numbers[each.identity() or id(each)] for each in streamed)


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
