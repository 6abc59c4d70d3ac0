"""Window: the streamed inputs of a pack's next step, read ahead, each row once for all members."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import tee

import torch
from torch import Tensor

from reglab.training.fused.shared_rows import SharedRows
from reglab.training.microbatches import cast_floating


class Window:
    """Fills ``SharedRows.inputs`` with the inputs of a step, and says in ``input_row`` where they are.

    The traced step reads both as it reads inputs that are in memory, so it computes the same bits.
    Members with one order, of the same seed and training part, have a row read once for all of
    them; of several orders the union of a step's rows is read. Parts that differ in targets alone,
    as by label noise, share what is read.

    Args:
        rows: Of the pack, on the device that trains; where they are in memory, nothing is done.
        upcoming: Returns the entries of the steps that are left, as the loader yields them.
        dtype: Of the weights.
    """

    def __init__(self, rows: SharedRows, upcoming: Callable[[], Iterator[Tensor]], dtype: torch.dtype) -> None:
        self._rows, self._upcoming, self._dtype = rows, upcoming, dtype
        self._source_of_part = torch.tensor(rows.sources_of_parts)
        self._next: deque[tuple[Tensor, list[Tensor]]] = deque()
        self._ahead: list[Iterator[Tensor]] = []
        if rows.sources:  # until the first step, and where steps are timed, every row is the first one
            self._put(rows.sources[0].batch(torch.zeros(1, dtype=torch.int64), rows.inputs.device), 0)

    def load(self, entry: Tensor) -> None:
        """Put the inputs of a step's rows into the window.

        Args:
            entry: Row numbers, as the loader yields them: that of the next step.

        Raises:
            UserError: Naming what cannot be read.
        """
        input_row = self._rows.input_row
        if not self._rows.sources or input_row is None:
            return
        if not self._ahead:
            self._begin()
        inputs = [next(ahead) for ahead in self._ahead[:1]]  # the first reader also tells what is next
        told, wanted = self._next.popleft()
        assert torch.equal(told, entry), "steps are loaded in the order of the loader"
        inputs += [next(ahead) for ahead in self._ahead[1:]]
        first = 0
        for source, (rows, values) in enumerate(zip(wanted, inputs, strict=True)):
            self._put(values, first)
            positions = torch.arange(first, first + len(rows), device=input_row.device)
            for part in (self._source_of_part == source).nonzero().flatten().tolist():
                input_row[rows.to(input_row.device) + part * self._rows.rows] = positions
            first += len(rows)

    def read(self, entry: Tensor) -> list[Tensor]:
        """Return the inputs of an entry, from each source, read now; nothing else changes."""
        device = self._rows.inputs.device
        return [
            source.batch(rows, device) for source, rows in zip(self._rows.sources, self._wanted(entry), strict=True)
        ]

    def close(self) -> None:
        """End what reads ahead; the next step begins anew."""
        self._ahead = []
        self._next.clear()

    def _begin(self) -> None:
        readers = tee(self._noted(), len(self._rows.sources))
        device = self._rows.inputs.device
        self._ahead = [
            source.read(_of(number, reader), device)
            for number, (source, reader) in enumerate(zip(self._rows.sources, readers, strict=True))
        ]

    def _noted(self) -> Iterator[list[Tensor]]:
        for entry in self._upcoming():
            wanted = self._wanted(entry)
            self._next.append((entry, wanted))
            yield wanted

    def _wanted(self, entry: Tensor) -> list[Tensor]:
        """Return the rows of each source that the members take in a step, each once."""
        flat = entry.reshape(-1)
        rows = flat % self._rows.rows
        if len(self._rows.sources) == 1:
            return [rows if entry.dim() == 1 else torch.unique(rows)]
        sources = self._source_of_part[flat // self._rows.rows]
        wanted = [torch.unique(rows[sources == source]) for source in range(len(self._rows.sources))]
        # Where no member that is left has the source, one row stands in: a reader has to go along.
        return [each if len(each) else torch.zeros(1, dtype=torch.int64) for each in wanted]

    def _put(self, values: Tensor, first: int) -> None:
        self._rows.inputs[first : first + len(values)] = cast_floating(values, self._dtype)


def _of(number: int, wanted: Iterable[list[Tensor]]) -> Iterator[Tensor]:
    return (each[number] for each in wanted)
