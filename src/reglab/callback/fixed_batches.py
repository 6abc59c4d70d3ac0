"""Batches of a user's loader in a fixed order: kept in memory up to a size, otherwise read again."""

import copy
import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
import torch
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.data import DataLoader, SequentialSampler

from reglab.callback.dataloader_rows import Rows, Unpack, is_mapped, numbers_of, pair_of, row_keys, rows_of_batches
from reglab.core.errors import UserError
from reglab.measures import probe_rows

Size = Callable[[int], int]
"""From the number of rows that there are to how many are wanted."""
MEMORY = 256 * 2**20  # bytes of rows that are kept
_UNKNOWN = 2**62  # rows of a stream


class FixedBatches:
    """The rows of ``loader``, or a fixed choice of them, in batches and in an order that never
    change.

    A ``DataLoader`` over a map-style dataset is not iterated itself, since it may shuffle, drop,
    repeat or share out rows between ranks: each row is read once, in the order of the dataset.
    Anything else is iterated from its start. Batches that take no more than ``memory`` together are
    read once and kept; larger ones are read again each time, with the same seeds, so that random
    transforms give what they gave before.

    Args:
        loader: A user's.
        ready: Makes a batch what ``training_step`` would get.
        unpack: Gives inputs and targets of such a batch, which is then all that is kept; None keeps
            it whole.
        size: From the number of rows that there are to how many are wanted, a fixed choice among
            all; of rows that come as a stream, where the number is not known, the first ones.
        batches: How many batches the trainer takes of an epoch: of a loader that shuffles they may
            hold any row, otherwise the rows are those of the first ones.
        memory: Bytes of batches that are kept at most.

    Attributes:
        kept: All batches, None where they are read again.
        available: How many rows there are to choose from; of a stream more than there can be.
        sizes: Rows of each batch.

    Raises:
        UserError: For a loader without rows.
    """

    def __init__(
        self,
        loader: Any,
        ready: Callable[[Any], Any],
        unpack: Unpack | None = None,
        size: Size | None = None,
        batches: float = math.inf,
        memory: float = MEMORY,
    ) -> None:
        mapped = is_mapped(loader) and loader.batch_sampler is not None
        self._source: _Mapped | _Stream = (_Mapped if mapped else _Stream)(loader, size, batches)
        self._ready, self._unpack = ready, unpack
        self.available, self.wanted = self._source.available, self._source.wanted
        self.sizes: list[int] = []
        self.kept: list[Any] | None = []
        with fixed_seeds():
            self._read(memory)
        if not self.rows:
            raise UserError("a gap cannot be measured on a loader without rows")

    @property
    def unpacked(self) -> bool:
        """Whether batches are inputs and targets."""
        return self._unpack is not None

    @property
    def rows(self) -> int:
        """The number of rows."""
        return min(sum(self.sizes), self.wanted if self.wanted is not None else sum(self.sizes))

    def of_rank(self, rank: int = 0, ranks: int = 1) -> Iterator[tuple[Any, int]]:
        """Yield each ``ranks``-th batch from ``rank`` on, with its number of rows.

        Every rank gets equally many: those that lack one get the last again, as of 0 rows.
        """
        last = len(self.sizes) - 1
        numbers = range(rank, -(-len(self.sizes) // ranks) * ranks, ranks)
        sizes = [self.sizes[number] if number <= last else 0 for number in numbers]
        wanted = [min(number, last) for number in numbers]
        if self.kept is not None:
            for number, rows in zip(wanted, sizes, strict=True):
                yield _fresh(self.kept[number]), rows  # a step may change its batch
            return
        read = 0
        for batch, rows in zip(self._source.read(wanted), sizes, strict=False):
            read += 1
            yield self._prepared(batch), rows
        if read < len(wanted):
            raise UserError(
                f"the loader gave {len(self.sizes)} batches when training started and fewer now; to be measured, it "
                "must give the same rows each time"
            )

    def take(self) -> Rows:
        """Return inputs and targets, ``[rows, ...]`` each, of unpacked batches that are kept, and
        keep them no longer.
        """
        assert self.kept is not None
        inputs, targets = zip(*self.kept, strict=True)
        self.kept = None
        return torch.cat(inputs)[: self.wanted], torch.cat(targets)[: self.wanted]

    def numbers(self, rows: int) -> Tensor:
        """Return the numbers of ``rows`` measured rows, int64 ``[rows]``.

        A number is the row's in the dataset, or, of a ``Subset``, in what that was taken from;
        where rows have none, it is the position in the stream.
        """
        known = self._source.numbers
        # A user's own collate may drop rows.
        return torch.as_tensor(known) if known is not None and len(known) == rows else torch.arange(rows)

    def _prepared(self, batch: Any) -> Any:
        batch = self._ready(batch)
        return batch if self._unpack is None else pair_of(batch, self._unpack)

    def _read(self, memory: float) -> None:
        """Read the batches once, and keep them if they fit; otherwise their sizes alone."""
        chunks = self._source.chunk_sizes
        used = 0.0
        for number, batch in enumerate(self._source.read(None)):
            prepared = self._prepared(batch)
            used += _bytes(prepared) or math.inf
            ahead = used / chunks[0] * sum(chunks) if chunks is not None and not number else used
            if ahead > memory:
                self.kept = None
                if chunks is not None:
                    self.sizes = chunks
                    return
            if self.kept is not None:
                self.kept.append(prepared)
            unpacked = chunks is None or self._unpack is not None
            self.sizes.append(rows_in(prepared) if unpacked else chunks[number])  # type: ignore[index]  # it is known
            if self.wanted is not None and sum(self.sizes) >= self.wanted:
                return


class _Mapped:
    """Rows of a map-style dataset, by their keys."""

    def __init__(self, loader: DataLoader[Any], size: Size | None, batches: float) -> None:
        keys = row_keys(loader)
        if batches != math.inf and isinstance(getattr(loader.batch_sampler, "sampler", None), SequentialSampler):
            keys = keys[: rows_of_batches(loader, int(batches))]
        self.available = len(keys)
        self.wanted: int | None = size(len(keys)) if size else len(keys)
        chosen = [keys[position] for position in probe_rows(len(keys), self.wanted, seed=0).tolist()]
        rows = loader.batch_size or 256
        self._chunks = [chosen[first : first + rows] for first in range(0, len(chosen), rows)]
        self.numbers = numbers_of(loader.dataset, chosen)
        self.chunk_sizes: list[int] | None = [len(chunk) for chunk in self._chunks]
        self._loader = loader

    def read(self, wanted: Sequence[int] | None) -> Iterable[Any]:
        chunks = self._chunks if wanted is None else [self._chunks[number] for number in wanted]
        return DataLoader(
            self._loader.dataset,
            batch_sampler=chunks,
            num_workers=self._loader.num_workers,
            prefetch_factor=self._loader.prefetch_factor,
            collate_fn=self._loader.collate_fn,
            worker_init_fn=self._loader.worker_init_fn,
            multiprocessing_context=self._loader.multiprocessing_context,
        )


class _Stream:
    """Batches of anything that can be iterated."""

    numbers: Sequence[int] | None = None
    chunk_sizes: list[int] | None = None

    def __init__(self, loader: Any, size: Size | None, batches: float) -> None:
        self.available = _UNKNOWN
        self.wanted = size(_UNKNOWN) if size else None
        self._loader, self._batches = loader, batches

    def read(self, wanted: Sequence[int] | None) -> Iterator[Any]:
        source = self._loader if self._batches == math.inf else islice(self._loader, int(self._batches))
        if wanted is None:
            yield from source
            return
        left = list(wanted)
        for number, batch in enumerate(source):
            if number == left[0]:
                yield batch
                left.pop(0)
                if not left:
                    return


@contextmanager
def fixed_seeds() -> Iterator[None]:
    """A context in which global random generators start from fixed seeds; afterwards they are as
    they were.
    """
    with isolate_rng():
        random.seed(0)
        np.random.seed(0)
        torch.default_generator.manual_seed(0)
        if torch.cuda.is_available():
            torch.cuda.manual_seed_all(0)
        yield


def rows_in(batch: Any) -> int:
    """Return the number of rows of a batch: the length of its first tensor that has one."""
    return next((len(leaf) for leaf in tree_leaves(batch) if isinstance(leaf, Tensor) and leaf.dim()), 0)


def _fresh(batch: Any) -> Any:
    """Return a batch with containers and tensors of its own."""
    return tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else copy.copy(leaf), batch)


def _bytes(batch: Any) -> int:
    return sum(leaf.nbytes for leaf in tree_leaves(batch) if isinstance(leaf, Tensor))
