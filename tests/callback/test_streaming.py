"""Rows that are read again for each measurement, against rows that are kept."""

import math
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, default_collate

from callback.own_module import LIGHTNING_WARNS, OwnModule, assert_same, dataset, loaders, trainer, weights_of
from callback.test_limits import Watched
from callback.test_own_loss import cross_entropies
from callback.test_regularize import Dealt, Jittered, SaveAtEnd
from reglab.callback.regularize import Regularize
from reglab.core.errors import UserError
from reglab.regularizers import EMA, L1, SAM

pytestmark = LIGHTNING_WARNS
WAYS: dict[str, dict[str, Any]] = {
    "task": {"task": "classification", "scores": ["auroc"]},
    "loss": {"loss": cross_entropies},
    "both": {"task": "classification", "loss": cross_entropies},
}


def jittered(workers: int = 0) -> list[DataLoader[Any]]:
    data = [Jittered(*loader.dataset.tensors) for loader in loaders()]  # type: ignore[attr-defined]  # a TensorDataset
    options: dict[str, Any] = {"num_workers": workers, "multiprocessing_context": "fork" if workers else None}
    return [DataLoader(rows, 16, shuffle=number == 0, **options) for number, rows in enumerate(data)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("workers", [0, 2])
def test_read_again_and_kept_give_the_same_numbers(way: str, workers: int) -> None:
    """Of data with random transforms, whose draws are the same each time."""
    ends = []
    for memory in (0, 256):
        torch.manual_seed(7)
        np.random.seed(7)
        callback, module = Regularize([L1(1e-3), EMA(0.9)], memory_mb=memory, **WAYS[way]), OwnModule()
        trainer([callback]).fit(module, *jittered(workers))
        ends.append((weights_of(module), callback, torch.get_rng_state(), np.random.get_state()[1].tolist()))
    assert_same(ends[0][0], ends[1][0])
    assert torch.equal(ends[0][2], ends[1][2])
    assert ends[0][3] == ends[1][3]
    for again, kept in zip(ends[0][1].history, ends[1][1].history, strict=True):
        assert again == pytest.approx(kept, abs=1e-12)
    for name in ("val_index", "probe_index", "val_loss", "probe_loss", "val_score"):
        again, kept = (getattr(end[1].examples, name) for end in ends)
        np.testing.assert_allclose(again, kept, atol=1e-12)


def test_reading_again_moves_no_random_state() -> None:
    ends = []
    for callbacks in ([], [Regularize([], "classification", memory_mb=0)]):
        torch.manual_seed(7)
        np.random.seed(7)
        module = OwnModule(dropout=0.5)
        trainer(callbacks).fit(module, *jittered())
        ends.append((weights_of(module), torch.get_rng_state(), np.random.get_state()[1].tolist()))
    assert_same(ends[0][0], ends[1][0])
    assert torch.equal(ends[0][1], ends[1][1])
    assert ends[0][2] == ends[1][2]


class Alive:
    """Collates batches, and notes how many of them were alive at one time."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def __call__(self, rows: list[Any]) -> Any:
        inputs, targets = default_collate(rows)
        self.now += 1
        self.most = max(self.most, self.now)
        weakref.finalize(inputs, self._dies)
        return inputs, targets

    def _dies(self) -> None:
        self.now -= 1


@pytest.mark.parametrize("batches", [20, 80])
def test_memory_does_not_grow_with_the_validation_part(batches: int) -> None:
    most = {}
    for memory in (0, 256):
        alive = Alive()
        val = DataLoader(dataset(4 * batches, 3), 4, collate_fn=alive)
        callback = Regularize([], loss=cross_entropies, memory_mb=memory)
        trainer([callback], epochs=1).fit(OwnModule(), loaders()[0], val)
        most[memory] = alive.most
    assert most[256] >= batches  # what is counted is what is kept
    assert most[0] <= 4


def test_the_limit_is_that_of_the_rows() -> None:
    """Of 20 validation rows of 6 doubles and a label, 20 * 56 bytes: read once up to it, otherwise each time."""
    for size, reads in ((1120, 1), (1119, 4)):
        val = Counted(20, 3)
        run = trainer([Regularize([], "classification", memory_mb=size / 2**20)], num_sanity_val_steps=0)
        run.fit(OwnModule(), loaders()[0], DataLoader(val, 5))
        # Two validations of Lightning's own. At the limit the first reading ends with the row that exceeds it.
        assert val.counts[0] == 2 + reads


class Counted(Watched):
    """Counts how often each row was read."""

    def __init__(self, rows: int, seed: int) -> None:
        super().__init__(rows, seed)
        self.counts = [0] * rows

    def __getitem__(self, row: int) -> Any:
        self.counts[row] += 1
        return super().__getitem__(row)


class Shortening(IterableDataset[Any]):
    """A stream that gives fewer rows each time."""

    def __init__(self, fewer: int) -> None:
        self.rows, self.fewer = 40, fewer

    def __iter__(self) -> Iterator[Any]:
        yield from list(dataset(self.rows, 3))
        self.rows -= self.fewer


@pytest.mark.filterwarnings("ignore:the validation loader does not know its length")
def test_a_stream_is_read_again_from_its_start() -> None:
    ends = []
    for memory in (0, 256):
        callback = Regularize([], "classification", memory_mb=memory)
        trainer([callback]).fit(OwnModule(), loaders()[0], DataLoader(Shortening(0), 16))
        ends.append(callback.history)
    for again, kept in zip(*ends, strict=True):
        assert again == pytest.approx(kept, abs=1e-12)
    with pytest.raises(UserError, match="gave 3 batches when training started and fewer now"):
        trainer([Regularize([], "classification", memory_mb=0)], num_sanity_val_steps=0).fit(
            OwnModule(), loaders()[0], DataLoader(Shortening(10), 16)
        )


@pytest.mark.filterwarnings("ignore:.*recommended to use `self.log\\('own_loss'")
@pytest.mark.parametrize("way", WAYS)
def test_two_ranks_read_what_one_does(tmp_path: Path, way: str) -> None:
    ends = []
    for name, options in (("one", {}), ("two", {"strategy": "ddp_fork", "devices": 2})):
        path = tmp_path / f"{name}.ckpt"
        callback: pl.Callback = Regularize([L1(1e-3)], memory_mb=0 if options else math.inf, **WAYS[way])
        trainer([callback, SaveAtEnd(path)], **options).fit(Dealt())
        ends.append(torch.load(path, weights_only=True)["callbacks"]["Regularize"]["history"])
    for actual, wanted in zip(ends[1], ends[0], strict=True):
        assert actual == pytest.approx(wanted, abs=1e-6)


def test_a_batch_without_a_tensor_is_never_kept() -> None:
    """Its size is not known; a graph's, for one, whose tensors are inside an object."""

    class Wrapped:
        def __init__(self, rows: list[Any]) -> None:
            self.inputs, self.targets = default_collate(rows)

    class OfObjects(OwnModule):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return cross_entropies(self, (batch.inputs, batch.targets)).mean()

        def validation_step(self, batch: Any, batch_idx: int) -> None: ...

    train, val = (DataLoader(loader.dataset, 16, collate_fn=Wrapped) for loader in loaders())
    members = [[SAM(0.1)], [SAM(0.1)]]
    callback = Regularize(members[0], loss=lambda module, batch: cross_entropies(module, (batch.inputs, batch.targets)))
    trainer([callback], accumulate_grad_batches=3).fit(OfObjects(), train, val)
    plain = Regularize(members[1], loss=cross_entropies)
    trainer([plain], accumulate_grad_batches=3).fit(OwnModule(), *loaders())
    assert callback.metrics == pytest.approx(plain.metrics, abs=1e-12)
