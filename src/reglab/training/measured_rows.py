"""Rows that gaps are measured on: the probe and the validation part of one or of several data sets."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from reglab.data import DataSet, Part
from reglab.data import Rows as Streamed
from reglab.measures import MeasureSettings, probe_rows, probe_size
from reglab.tasks import Task
from reglab.training.microbatches import cast_floating


class Rows(NamedTuple):
    """Values of some rows: ``[rows, ...]``, or ``[sets, rows, ...]`` where ``per_member``, the
    members having several sets.
    """

    values: Tensor
    per_member: bool = False

    @property
    def length(self) -> int:
        """The number of rows of a set."""
        return self.values.shape[1 if self.per_member else 0]

    def at(self, rows: slice, sets: Tensor) -> Tensor:
        """Return the values of ``rows``, ``[rows, ...]``, or each member's own,
        ``[members, rows, ...]``.

        Args:
            sets: Which set each member has, int64 ``[members]``.
        """
        return self.values[:, rows].index_select(0, sets) if self.per_member else self.values[rows]

    def all(self, sets: Tensor) -> Tensor:
        """Return the values of all rows, ``[1, rows, ...]`` where all members have the same."""
        return self.values.index_select(0, sets) if self.per_member else self.values.unsqueeze(0)

    def chunks(self, slices: Sequence[slice], sets: Tensor) -> Iterator[Tensor]:
        """Yield what ``at`` returns of each slice."""
        return (self.at(rows, sets) for rows in slices)


def rows_of(sets: Sequence[Tensor]) -> Rows:
    """Return the values of the distinct data sets, kept once where all are equal."""
    if all(torch.equal(values, sets[0]) for values in sets[1:]):
        return Rows(sets[0])
    return Rows(torch.stack(list(sets)), per_member=True)


class StreamedRows:
    """Inputs of one data set, or of several with as many rows, read batch by batch onto the device
    that trains.

    Args:
        rows: What reads each set; one stands for all that have the same inputs.
        device: Where to.
        dtype: Of the weights.
    """

    def __init__(self, rows: Sequence[Streamed], device: torch.device, dtype: torch.dtype) -> None:
        named = [each.identity() or id(each) for each in rows]
        self._sets = list(rows) if len(set(named)) > 1 else [rows[0]]
        self._device, self._dtype = device, dtype

    @property
    def shape(self) -> torch.Size:
        """``[rows, *input_shape]``, of a set."""
        return self._sets[0].shape

    def __len__(self) -> int:
        return len(self._sets[0])

    @property
    def length(self) -> int:
        """The number of rows of a set."""
        return len(self)

    @property
    def per_member(self) -> bool:
        """Whether the members have several sets."""
        return len(self._sets) > 1

    def read(self, batches: Sequence[Tensor], number: int = 0) -> Iterator[Tensor]:
        """Yield the inputs of each batch of row numbers, int64 ``[rows]``, of a set."""
        return (cast_floating(inputs, self._dtype) for inputs in self._sets[number].read(batches, self._device))

    def chunks(self, slices: Sequence[slice], sets: Tensor) -> Iterator[Tensor]:
        """Yield the inputs of each slice, ``[rows, ...]``, or each member's own,
        ``[members, rows, ...]``.

        Args:
            slices: Of the rows.
            sets: Which set each member has, int64 ``[members]``.
        """
        batches = [torch.arange(rows.start, min(rows.stop, len(self))) for rows in slices]
        if not self.per_member:
            yield from self.read(batches)
            return
        used, chosen = torch.unique(sets, return_inverse=True)
        for each in zip(*(self.read(batches, number) for number in used.tolist()), strict=True):
            yield torch.stack(each).index_select(0, chosen)


class GapSide(NamedTuple):
    """The rows of one side of a gap.

    Args:
        inputs: In memory or streamed, as the data are.
        weights: Of the examples; None where the data have none.
        left: The share of the part's rows that are not measured.
    """

    inputs: Rows | StreamedRows
    targets: Rows
    weights: Rows | None = None
    left: float = 1.0


@dataclass(frozen=True)
class GapRows:
    """The rows of both sides of a gap, on the device that trains.

    Args:
        clean: Targets of the probe before label noise; None where there is none.
        corrupted: Which rows of the probe the noise changed, bool.
        units: The scale of the targets, ``[jobs, outputs]``.
    """

    task: Task | str
    probe: GapSide
    val: GapSide
    clean: Rows | None = None
    corrupted: Rows | None = None
    units: Tensor | None = None


def gap_rows(
    jobs: Sequence[DataSet],
    settings: MeasureSettings,
    device: torch.device,
    dtype: torch.dtype,
    sets: Sequence[DataSet] | None = None,
) -> GapRows:
    """Return the rows that the gaps of some jobs are measured on.

    Args:
        jobs: Data set of each job.
        settings: With the size of the probe.
        device: That trains.
        dtype: Of the weights.
        sets: The distinct ones among the data sets; by default all.
    """
    sets = jobs if sets is None else sets
    train, val = [data.train for data in sets], [data.val for data in sets]
    size = probe_size(len(train[0]), len(val[0]), settings.probe_rows)
    probe = probe_rows(len(train[0]), size, seed=0)

    def moved(tensors: Sequence[Tensor]) -> Rows:
        return rows_of([cast_floating(values.to(device), dtype) for values in tensors])

    def side(parts: Sequence[Part], rows: Tensor | slice, left: float) -> GapSide:
        weights = [part.weights[rows].to(device, torch.promote_types(dtype, torch.float32)) for part in parts]
        return GapSide(
            StreamedRows([each.take(rows) for each in streamed], device, dtype)
            if (streamed := [part.inputs for part in parts if not isinstance(part.inputs, Tensor)])
            else moved([part.tensor[rows] for part in parts]),
            moved([part.targets[rows] for part in parts]),
            rows_of(weights) if any(data.weighted for data in sets) else None,
            left,
        )

    noisy = any(bool(part.corrupted.any()) for part in train)
    units = [data.target_scale for data in jobs if data.target_scale is not None]
    return GapRows(
        task=sets[0].criterion,
        probe=side(train, probe, 1 - len(probe) / len(train[0])),
        val=side(val, slice(None), 1.0),
        clean=moved([part.clean_targets[probe] for part in train]) if noisy else None,
        corrupted=moved([part.corrupted[probe] for part in train]) if noisy else None,
        units=torch.stack(units).to(device, dtype) if units else None,
    )
