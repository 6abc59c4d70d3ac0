"""Which rows are measured, whatever sampler the loader has."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from lightning_fabric.utilities.distributed import DistributedSamplerWrapper
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from reglab.callback.dataloader_rows import inputs_and_targets
from reglab.callback.fixed_batches import FixedBatches
from reglab.core.errors import UserError

ROWS = 10
DATA = TensorDataset(torch.arange(ROWS).float()[:, None], torch.arange(ROWS) * 10)


class Backwards:
    """A user's own sampler."""

    def __iter__(self) -> Iterator[int]:
        return iter([9, 3, 3, 1])

    def __len__(self) -> int:
        return 4


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(zip(*DATA.tensors, strict=True))


def as_it_is(batch: Any) -> Any:
    return batch


def rows_of(loader: Any, size: Any = None) -> list[int]:
    inputs, targets = FixedBatches(loader, as_it_is, inputs_and_targets, size).take()
    assert torch.equal(inputs[:, 0].long() * 10, targets)
    return [int(row) for row in inputs[:, 0]]


LOADERS: dict[str, tuple[Any, list[int]]] = {
    "in order": (DataLoader(DATA, 4), list(range(10))),
    "shuffled": (DataLoader(DATA, 4, shuffle=True), list(range(10))),
    "last batch dropped": (DataLoader(DATA, 4, shuffle=True, drop_last=True), list(range(10))),
    "one rank's share": (DataLoader(DATA, 4, sampler=DistributedSampler(DATA, 2, 1)), list(range(10))),
    "a split by sampler": (DataLoader(DATA, 4, sampler=SubsetRandomSampler([7, 2, 5])), [2, 5, 7]),
    "a split, one rank's share": (
        DataLoader(DATA, 4, sampler=DistributedSamplerWrapper(SubsetRandomSampler([7, 2, 5]), 2, 0)),
        [2, 5, 7],
    ),
    "weighted": (DataLoader(DATA, 4, sampler=WeightedRandomSampler([0.0] * 8 + [1.0, 9.0], 30)), [8, 9]),
    "own sampler": (DataLoader(DATA, 4, sampler=Backwards()), [1, 3, 9]),
    "own batch sampler": (DataLoader(DATA, batch_sampler=[[4, 0], [8]]), [0, 4, 8]),
    "a stream": (DataLoader(Stream(), 4), list(range(10))),
    "batches made by the dataset": (
        DataLoader(Stream(), None, collate_fn=lambda row: (row[0][None], row[1][None])),
        list(range(10)),
    ),
    "no DataLoader": ([(DATA.tensors[0][:3], DATA.tensors[1][:3])], [0, 1, 2]),
}


@pytest.mark.parametrize("name", LOADERS)
def test_every_row_is_taken_once_in_order(name: str) -> None:
    loader, wanted = LOADERS[name]
    assert rows_of(loader) == wanted


def test_a_part_is_a_fixed_choice_spread_over_the_rows() -> None:
    first = rows_of(DataLoader(DATA, 4, shuffle=True), lambda rows: rows // 2)
    assert first == rows_of(DataLoader(DATA, 3), lambda rows: rows // 2)
    assert len(set(first)) == 5
    assert first == sorted(first) != [0, 1, 2, 3, 4]


def test_of_a_stream_the_first_rows_are_taken() -> None:
    assert rows_of(DataLoader(Stream(), 4), lambda rows: min(rows, 6)) == list(range(6))


@pytest.mark.parametrize(
    "unpack, message",
    [
        (lambda batch: batch[0], "must give a tensor of inputs and a tensor of targets"),
        (lambda batch: (batch[0], batch[1][:1]), "with as many rows"),
        (lambda batch: ([batch[0]], batch[1]), "'list'"),
        (lambda batch: inputs_and_targets({"x": batch[0]}), r"a batch is a dict of 1, not \(inputs, targets\)"),
    ],
)
def test_a_batch_that_is_no_pair_is_refused(unpack: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        FixedBatches(DataLoader(DATA, 4), as_it_is, unpack)


def test_a_loader_without_rows_is_refused() -> None:
    with pytest.raises(UserError, match="without rows"):
        FixedBatches(DataLoader(TensorDataset(torch.zeros(0, 1), torch.zeros(0))), as_it_is, inputs_and_targets)


class Counting(Dataset[Any]):
    """Says how often it was read."""

    reads = 0

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        self.reads += 1
        return torch.zeros(1), row


def test_only_the_wanted_rows_are_read() -> None:
    data = Counting()
    FixedBatches(DataLoader(data, 50, shuffle=True), as_it_is, inputs_and_targets, lambda rows: 20)
    assert data.reads == 20


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
@pytest.mark.parametrize("memory", [0, 2**20], ids=["read again", "kept"])
@pytest.mark.parametrize("loader", [DataLoader(DATA, 3, shuffle=True), DataLoader(Stream(), 3)], ids=["rows", "stream"])
def test_ranks_share_batches_equally_and_each_row_counts_once(loader: Any, memory: float, ranks: int) -> None:
    batches = FixedBatches(loader, as_it_is, inputs_and_targets, memory=memory)
    assert (batches.kept is None) == (memory == 0)
    shares = [list(batches.of_rank(rank, ranks)) for rank in range(ranks)]
    assert len({len(share) for share in shares}) == 1  # collectives are called equally often
    in_order = [share[number] for number in range(len(shares[0])) for share in shares]
    counted = [int(row) for (inputs, _), rows in in_order for row in inputs[:rows, 0]]
    assert counted == list(range(ROWS))
    assert all(len(inputs) for (inputs, _), _ in in_order)  # one that counts nothing can be computed
