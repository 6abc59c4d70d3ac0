"""Which rows a user's DataLoader has, and which parts of a batch are inputs and targets."""

from collections.abc import Callable, Sequence
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
from reglab.tasks import Task
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


def pair_of(batch: Any, unpack: Unpack) -> Rows:
    """Return inputs and targets of a batch, ``[rows, ...]`` each.

    Raises:
        UserError: If that is not what ``unpack`` gives.
    """
    pair = unpack(batch)
    tensors = isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(part, Tensor) for part in pair)
    if not tensors or pair[0].dim() == 0 or pair[0].shape[:1] != pair[1].shape[:1]:
        shapes = [list(part.shape) if isinstance(part, Tensor) else type(part).__name__ for part in pair]
        raise UserError(
            f"unpack must give a tensor of inputs and a tensor of targets with as many rows, it gave {shapes}"
        )
    return pair[0].detach(), pair[1].detach()


def wide_labels(targets: Tensor, task: Task | None) -> Tensor:
    """Return targets, those that are classes in int64: losses take no narrower ones."""
    return targets.long() if task is not None and task.integers and not targets.is_floating_point() else targets


def is_mapped(loader: Any) -> bool:
    """Return whether it is a ``DataLoader`` over a dataset that gives each row by its key."""
    return isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset)


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


def numbers_of(dataset: Any, keys: Sequence[Any]) -> Sequence[int] | None:
    """Return the numbers of the rows with these keys, of a ``Subset`` those in what it was taken
    from; None where keys are no numbers.
    """
    while isinstance(dataset, Subset):
        dataset, keys = dataset.dataset, [dataset.indices[key] for key in keys]
    return [int(key) for key in keys] if all(isinstance(key, (int, np.integer)) for key in keys) else None
