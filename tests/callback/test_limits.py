"""The gap is measured on the rows that the trainer takes, whatever limits it has."""

from collections.abc import Iterator
from itertools import count, islice
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, SequentialSampler

import reglab.callback.measurement
from callback.own_module import FEATURES, LIGHTNING_WARNS, OwnModule, dataset, trainer
from reglab import Regularize

pytestmark = LIGHTNING_WARNS
ROWS, VAL_ROWS, BATCH = 64, 100, 8


class Watched(Dataset[Any]):
    """Notes the rows that are read."""

    def __init__(self, rows: int, seed: int) -> None:
        self.data, self.read = dataset(rows, seed), set[int]()

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, row: int) -> Any:
        self.read.add(row)
        return self.data[row]


class Endless(IterableDataset[Any]):
    """Rows without an end, which forget no one who asks for too many."""

    def __init__(self, most: int) -> None:
        self.most, self.read = most, 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for row in count():
            self.read = max(self.read, row + 1)
            assert row < self.most, "it reads on"
            yield torch.full((FEATURES,), row / 100, dtype=torch.float64), torch.tensor(row % 3)


def read_by(
    callbacks: list[Any], epochs: int = 1, shuffle: bool = False, sampled: bool = False, **limits: Any
) -> tuple[set[int], set[int]]:
    """Return the training and validation rows that a fit reads.

    sampled: By a batch sampler, with which a loader does not know the size of its batches.
    """
    train, val = Watched(ROWS, 2), Watched(VAL_ROWS, 3)
    run = trainer(callbacks, epochs=epochs, num_sanity_val_steps=0, **limits)
    loaders = [DataLoader(train, BATCH, shuffle=shuffle), DataLoader(val, BATCH)]
    if sampled:
        loaders = [
            DataLoader(each, batch_sampler=BatchSampler(SequentialSampler(each), BATCH, False)) for each in (train, val)
        ]
    run.fit(OwnModule(), *loaders)
    return train.read, val.read


LIMITS: list[dict[str, Any]] = [
    {},
    {"limit_val_batches": 2},
    {"limit_val_batches": 0.3},
    {"limit_train_batches": 3, "limit_val_batches": 1},
    {"fast_dev_run": 2},
]


@pytest.mark.parametrize(
    "limits, sampled",
    # Lightning cannot overfit batches of a sampler that it does not know.
    [*((limits, sampled) for limits in LIMITS for sampled in (False, True)), ({"overfit_batches": 2}, False)],
    ids=str,
)
def test_the_rows_are_those_that_the_trainer_takes(limits: dict[str, Any], sampled: bool) -> None:
    wanted = read_by([], sampled=sampled, **limits)
    callback = Regularize([], "classification")
    assert read_by([callback], sampled=sampled, **limits) == wanted
    assert callback.examples is not None
    assert (set(callback.examples.probe_index.tolist()), set(callback.examples.val_index.tolist())) == wanted


def test_a_shuffled_training_part_is_probed_whole() -> None:
    read, _ = read_by([Regularize([], "classification")], shuffle=True, limit_train_batches=2)
    assert read == set(range(ROWS))


def test_a_trainer_that_validates_nothing_is_measured_without_a_gap() -> None:
    with pytest.warns(UserWarning, match="no gap: .* and limit_val_batches above 0"):
        _, val = read_by([Regularize([], "classification")], limit_val_batches=0)
    assert val == set()


def test_streams_without_an_end_are_read_as_far_as_the_limits() -> None:
    train, val = Endless(5 * BATCH), Endless(4 * BATCH)
    callback = Regularize([], "classification")
    run = trainer([callback], epochs=2, limit_train_batches=3, limit_val_batches=2, num_sanity_val_steps=0)
    run.fit(OwnModule(), DataLoader(train, BATCH), DataLoader(val, BATCH))
    assert callback.metrics["gap/loss"] == pytest.approx(callback.metrics["val/loss"] - callback.metrics["train/loss"])


def test_a_stream_that_may_have_no_end_is_read_so_far_and_a_warning_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reglab.callback.measurement, "_LONGEST", 24)

    class Finite(Endless):
        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            return islice(super().__iter__(), self.most)

    val = Finite(40)
    callback = Regularize([], "classification")
    run = trainer([callback], epochs=1, limit_train_batches=3, num_sanity_val_steps=0)
    with pytest.warns(UserWarning, match="does not know its length: its first 24 rows are measured"):
        run.fit(OwnModule(), DataLoader(Endless(99), BATCH), DataLoader(val, BATCH))
    assert callback.examples is not None
    assert len(callback.examples.val_loss) == 24
