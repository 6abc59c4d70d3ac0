"""Read each row of a user's DataLoader once, in a fixed order, to measure gaps on."""

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from lightning_fabric.utilities.distributed import DistributedSamplerWrapper
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from reglab.core.errors import UserError
from reglab.measures import probe_rows
from reglab.training.lightning_packages import is_lightning

Rows = tuple[Tensor, Tensor]
Unpack = Callable[[Any], Rows]


def inputs_and_targets(batch: Any) -> Rows:
    """Return the two parts of an ``(inputs, targets)`` batch.

    Raises:
        UserError: For any other batch.
    """
    if isinstance(batch, (list, tuple)) and len(batch) == 2:
        return batch[0], batch[1]
    parts = f" of {len(batch)}" if isinstance(batch, (list, tuple, dict)) else ""
    raise UserError(
        f"a batch is a {type(batch).__name__}{parts}, not (inputs, targets); say which are which: "
        "Regularize(..., unpack=lambda batch: (inputs, targets))"
    )


def take_rows(loader: Any, unpack: Unpack, size: Callable[[int], int] | None = None, batches: float = math.inf) -> Rows:
    """Return inputs ``[rows, ...]`` and targets ``[rows, ...]`` of the rows of ``loader``, or of a
    subset.

    A ``DataLoader`` over a map-style dataset is not iterated itself, since it may shuffle, drop,
    repeat or share out rows between ranks: each row is read once, in the order of the dataset.
    Anything else is iterated once from its start.

    Args:
        unpack: Gives inputs and targets of a batch.
        size: From the number of rows that there are to how many are wanted, a fixed choice among
            all; of rows that come as a stream, where the number is not known, the first ones.
        batches: How many batches the trainer takes of an epoch: of a loader that shuffles they may
            hold any row, otherwise the rows are those of the first ones.
    """
    return numbered_rows(loader, unpack, size, batches)[0]


def numbered_rows(
    loader: Any, unpack: Unpack, size: Callable[[int], int] | None = None, batches: float = math.inf
) -> tuple[Rows, Tensor]:
    """Like ``take_rows``; return the rows' numbers too, int64 [rows].

    A number is the row's in the dataset, or, of a ``Subset``, in what that was taken from; where
    rows have none, it is the position in the stream.

    Args:
        loader: A user's.
        unpack: Gives inputs and targets of a batch.
        size: From the number of rows to how many are wanted.
        batches: How many batches the trainer takes of an epoch.

    Returns:
        Inputs and targets, and the rows' numbers.
    """
    source, wanted, numbers = _batches(loader, size, batches)
    inputs: list[Tensor] = []
    targets: list[Tensor] = []
    count = 0
    for batch in source:
        pair = unpack(batch)
        _check(pair)
        inputs.append(pair[0].detach())
        targets.append(pair[1].detach())
        count += len(pair[0])
        if wanted is not None and count >= wanted:
            break
    if not count:
        raise UserError("a gap cannot be measured on a loader without rows")
    rows = torch.cat(inputs)[:wanted], torch.cat(targets)[:wanted]
    known = numbers is not None and len(numbers) == len(rows[0])  # a user's own collate may drop rows
    return rows, torch.as_tensor(numbers) if known else torch.arange(len(rows[0]))


def row_keys(loader: DataLoader[Any]) -> Sequence[Any]:
    """Return the keys of the dataset's rows that ``loader`` draws from, each once, in a fixed
    order.

    A user's own sampler is iterated once, and what it gave counts as what there is.
    """
    batch_sampler = loader.batch_sampler
    if type(batch_sampler) is not BatchSampler:
        return sorted({key for batch in batch_sampler or () for key in batch})
    sampler: Any = batch_sampler.sampler
    if is_lightning(sampler, DistributedSamplerWrapper):
        sampler = sampler.dataset._sampler
    if isinstance(sampler, SubsetRandomSampler):
        return sorted(sampler.indices)
    if isinstance(sampler, WeightedRandomSampler):
        return [int(row) for row in torch.as_tensor(sampler.weights).nonzero()]
    if isinstance(sampler, (SequentialSampler, RandomSampler, DistributedSampler)):
        return range(len(loader.dataset))  # type: ignore[arg-type]  # map-style, so it has a length
    return sorted(set(sampler))


def rows_of_batches(loader: DataLoader[Any], batches: int) -> int:
    """Return how many rows the first batches of a loader hold.

    Args:
        loader: Over a map-style dataset.
        batches: How many.
    """
    size = loader.batch_size or getattr(loader.batch_sampler, "batch_size", None)
    if size:
        return batches * int(size)
    return sum(len(batch) for batch in islice(loader.batch_sampler or (), batches))


def batches_in_order(loader: Any, size: Callable[[int], int] | None, batches: float) -> Iterable[Any]:
    """Return the batches of a loader's rows in a fixed order, each row once.

    Args:
        loader: A user's.
        size: From the number of rows to how many are wanted.
        batches: How many batches the trainer takes of an epoch.
    """
    return _batches(loader, size, batches)[0]


def _batches(
    loader: Any, size: Callable[[int], int] | None, batches: float
) -> tuple[Iterable[Any], int | None, Sequence[int] | None]:
    """Return batches in a fixed order, how many of their rows are wanted, None for all, and their
    numbers if known.
    """
    mapped = isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset)
    if not mapped or loader.batch_sampler is None:
        source = loader if batches == math.inf else islice(loader, int(batches))
        return source, size(2**62) if size else None, None
    keys = row_keys(loader)
    if batches != math.inf and isinstance(getattr(loader.batch_sampler, "sampler", None), SequentialSampler):
        keys = keys[: rows_of_batches(loader, int(batches))]
    wanted = size(len(keys)) if size else len(keys)
    chosen = [keys[position] for position in probe_rows(len(keys), wanted, seed=0).tolist()]
    again = DataLoader(
        Subset(loader.dataset, chosen),
        batch_size=loader.batch_size or 256,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
    )
    return again, wanted, _numbers(loader.dataset, chosen)


def _numbers(dataset: Any, keys: Sequence[Any]) -> Sequence[int] | None:
    while isinstance(dataset, Subset):
        dataset, keys = dataset.dataset, [dataset.indices[key] for key in keys]
    return [int(key) for key in keys] if all(isinstance(key, (int, np.integer)) for key in keys) else None


def _check(pair: Any) -> None:
    tensors = isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(part, Tensor) for part in pair)
    if not tensors or pair[0].dim() == 0 or pair[0].shape[:1] != pair[1].shape[:1]:
        shapes = [list(part.shape) if isinstance(part, Tensor) else type(part).__name__ for part in pair]
        raise UserError(
            f"unpack must give a tensor of inputs and a tensor of targets with as many rows, it gave {shapes}"
        )
