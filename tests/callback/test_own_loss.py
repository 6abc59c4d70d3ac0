"""A user's own loss of any batch: its gap, its interval, and what is refused."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from callback.own_module import LIGHTNING_WARNS, OwnModule, assert_same, loaders, trainer, weights_of
from callback.test_regularize import Dealt, SaveAtEnd
from reglab.callback.regularize import Regularize
from reglab.core.errors import UserError
from reglab.regularizers import EMA, L1, L2, EarlyStopping

pytestmark = LIGHTNING_WARNS
WORDS, LONGEST = 7, 9


def sentences(rows: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, LONGEST, (rows,), generator=generator)
    return [torch.randint(1, WORDS, (int(length),), generator=generator) for length in lengths]


def cross_entropies(module: nn.Module, batch: Any) -> Tensor:
    return functional.cross_entropy(module(batch[0]), batch[1], reduction="none")


class Sentences(Dataset[Tensor]):
    def __init__(self, rows: int, seed: int) -> None:
        self.rows = sentences(rows, seed)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Tensor:
        return self.rows[row]


def padded(rows: list[Tensor]) -> dict[str, Any]:
    tokens = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return {"tokens": tokens, "mask": tokens != 0, "note": "a string"}


class NextToken(pl.LightningModule):
    """Predicts each token from those before it, of ragged sentences, padded by batch."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.embed, self.head = nn.Embedding(WORDS, 8).double(), nn.Linear(8, WORDS).double()

    def losses(self, batch: dict[str, Any]) -> Tensor:
        """Return the mean over the tokens of each sentence, [rows]."""
        logits, wanted, mask = self.head(self.embed(batch["tokens"][:, :-1])), batch["tokens"][:, 1:], batch["mask"]
        each = functional.cross_entropy(logits.transpose(1, 2), wanted, reduction="none") * mask[:, 1:]
        return each.sum(1) / mask[:, 1:].sum(1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self.losses(batch).mean()
        self.log("own/train_loss", loss, batch_size=len(batch["tokens"]))
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None: ...

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.3)


def text(rows: int = 1200, val_rows: int = 40) -> tuple[DataLoader[Any], DataLoader[Any]]:
    return (
        DataLoader(Sentences(rows, 1), 16, shuffle=True, collate_fn=padded),
        DataLoader(Sentences(val_rows, 2), 16, collate_fn=padded),
    )


def test_a_next_token_module_has_its_gap_with_an_interval() -> None:
    """Padded dicts; the means by hand, sentence by sentence, the error by SciPy."""
    callback, module = Regularize([L2(1e-3)], loss=lambda module, batch: module.losses(batch)), NextToken()
    run = trainer([callback], epochs=1)
    run.fit(module, *text())
    assert callback.examples is not None
    probe = [sentences(1200, 1)[row] for row in callback.examples.probe_index]
    assert len(probe) == 1000
    sides = []
    with torch.no_grad():
        for rows in (probe, sentences(40, 2)):
            sides.append([float(module.losses(padded([row]))[0]) for row in rows])
    metrics = callback.metrics
    assert metrics["train/loss"] == pytest.approx(np.mean(sides[0]), abs=1e-12)
    assert metrics["val/loss"] == pytest.approx(np.mean(sides[1]), abs=1e-12)
    assert metrics["gap/loss"] == pytest.approx(np.mean(sides[1]) - np.mean(sides[0]), abs=1e-12)
    assert metrics["val/loss_se"] == pytest.approx(stats.sem(sides[1]), abs=1e-12)
    assert metrics["gap/loss_low"] < metrics["gap/loss"] < metrics["gap/loss_high"]
    np.testing.assert_allclose(callback.examples.val_loss, sides[1], atol=1e-12)
    assert "weights/all/l2" in metrics
    assert not {"val/accuracy", "own/loss"} & set(metrics)


def test_an_own_loss_equals_the_task_that_it_is() -> None:
    """Cross entropy by hand measures what the task does, intervals included."""
    own, task = (
        Regularize([L2(0.1)], loss=cross_entropies),
        Regularize([L2(0.1)], "classification"),
    )
    for callback in (own, task):
        trainer([callback]).fit(OwnModule(), *loaders())
    for key in ("train/loss", "val/loss", "val/loss_se", "gap/loss", "gap/loss_low", "gap/loss_high"):
        assert own.metrics[key] == pytest.approx(task.metrics[key], abs=1e-12), key
    assert own.examples is not None
    assert task.examples is not None
    np.testing.assert_allclose(own.examples.probe_loss, task.examples.probe_loss, atol=1e-12)


def test_with_a_task_too_its_score_is_measured_and_the_loss_is_the_own_one() -> None:
    callback = Regularize([], "classification", loss=lambda module, batch: (module(batch[0]) ** 2).sum(1))
    module = OwnModule()
    trainer([callback]).fit(module, *loaders())
    inputs, targets = loaders()[1].dataset.tensors  # type: ignore[attr-defined]  # a TensorDataset
    outputs = module(inputs).detach()
    assert callback.metrics["val/loss"] == pytest.approx(float((outputs**2).sum(1).mean()), abs=1e-12)
    right = (outputs.argmax(1) == targets).double()
    assert callback.metrics["val/accuracy"] == pytest.approx(float(right.mean()), abs=1e-6)
    assert callback.examples is not None
    np.testing.assert_array_equal(callback.examples.val_score, right)


class TwoTowers(pl.LightningModule):
    """Contrastive: pairs are told apart inside their batch, so a loss is one of the batch."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(4)
            self.left, self.right = nn.Linear(6, 4).double(), nn.Linear(6, 4).double()

    def contrast(self, batch: Any) -> Tensor:
        left, right = functional.normalize(self.left(batch[0])), functional.normalize(self.right(batch[0] ** 2))
        return functional.cross_entropy(left @ right.T, torch.arange(len(left)))

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        loss = self.contrast(batch)
        self.log("contrastive", loss)
        return {"loss": loss}

    def validation_step(self, batch: Any, batch_idx: int) -> None: ...

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_a_loss_of_a_batch_has_a_gap_without_an_interval() -> None:
    """By the user's own training_step, whose logged values stay those of training."""
    logged = []

    class Logged(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            logged.append(float(trainer.callback_metrics["contrastive"]))

    for extra in ([Regularize([], loss=lambda module, batch: module.training_step(batch, 0))], []):
        module = TwoTowers()
        trainer([*extra, Logged()], epochs=1).fit(module, *loaders())
        if extra:
            metrics = extra[0].metrics
            with torch.no_grad():
                wanted = [[float(module.contrast(batch)) * len(batch[0]) for batch in loader] for loader in loaders()]
            assert metrics["train/loss"] == pytest.approx(sum(wanted[0]) / 48, abs=1e-12)
            assert metrics["val/loss"] == pytest.approx(sum(wanted[1]) / 20, abs=1e-12)
            assert metrics["gap/loss"] == pytest.approx(metrics["val/loss"] - metrics["train/loss"], abs=1e-12)
            assert not {"gap/loss_low", "gap/loss_high", "val/loss_se"} & set(metrics)
            assert extra[0].examples is None
    assert logged[0] == logged[1]


class Noisy(OwnModule):
    """Its loss draws, as that of a variational autoencoder does."""

    def losses(self, batch: Any) -> Tensor:
        inputs = batch[0] + torch.randn_like(batch[0]) + np.random.standard_normal()
        return functional.cross_entropy(self(inputs), batch[1], reduction="none") - 5


def test_measuring_by_a_loss_that_draws_changes_nothing_and_repeats() -> None:
    ends = []
    for callbacks in ([], [Regularize([], loss=lambda module, batch: module.losses(batch))]):
        module = Noisy(dropout=0.5)
        torch.manual_seed(7)
        np.random.seed(7)
        trainer(callbacks, epochs=1).fit(module, *loaders(shuffle=True))
        ends.append((weights_of(module), torch.get_rng_state(), np.random.get_state()[1].tolist()))
    assert_same(ends[1][0], ends[0][0])
    assert torch.equal(ends[1][1], ends[0][1])
    assert ends[1][2] == ends[0][2]
    frozen = Noisy(lambda weights: torch.optim.SGD(weights, lr=0.0))
    callback = Regularize([], loss=lambda module, batch: module.losses(batch))
    trainer([callback]).fit(frozen, *loaders())
    assert callback.history[1]["val/loss"] == callback.history[2]["val/loss"] < 0  # of any sign


def test_averaged_weights_are_measured_and_early_stopping_watches_the_own_loss() -> None:
    members = [EMA(0.5), EarlyStopping(2, min_delta=100.0)]
    callback = Regularize(members, loss=lambda module, batch: functional.cross_entropy(module(batch[0]), batch[1]))
    run, module = trainer([callback], epochs=50), OwnModule()
    run.fit(module, *loaders())
    assert run.current_epoch == 3
    with callback.cocktail.evaluating(module), torch.no_grad():
        inputs, targets = loaders()[1].dataset.tensors  # type: ignore[attr-defined]  # a TensorDataset
        averaged = float(functional.cross_entropy(module(inputs), targets))
    assert callback.metrics["val/loss"] == pytest.approx(averaged, abs=1e-12)


@pytest.mark.parametrize(
    "loss, words",
    [
        (lambda module, batch: cross_entropies(module, batch)[:3], r"shape \[3\] for a batch of 16"),
        (lambda module, batch: module(batch[0]), r"shape \[16, 3\] for a batch of 16 rows; let it give one loss"),
        (lambda module, batch: 0.5, "loss gave 0.5"),
        (lambda module, batch: {"total": module(batch[0]).sum()}, "loss gave None"),
    ],
)
def test_what_is_no_loss_is_refused_before_the_first_epoch(loss: Any, words: str) -> None:
    callback = Regularize([], loss=loss)
    with pytest.raises(UserError, match=words):
        trainer([callback]).fit(OwnModule(), *loaders())
    assert not callback.history


def test_without_a_task_and_a_loss_it_asks_for_one() -> None:
    with pytest.raises(UserError, match=r"task= one of binary, classification, .* or loss=lambda module, batch"):
        Regularize([L1()])
    with pytest.raises(UserError, match="are scores of a task"):
        Regularize([], loss=lambda module, batch: module(batch[0]).sum(), scores=["auroc"])
    with pytest.raises(UserError, match="must be a function"):
        Regularize([], loss="mse")  # type: ignore[arg-type]  # the mistake is the case


@pytest.mark.filterwarnings("ignore:.*recommended to use `self.log\\('own_loss'")
@pytest.mark.parametrize("by_batch", [False, True])
def test_two_ranks_measure_what_one_does(tmp_path: Path, by_batch: bool) -> None:
    """Validation batches of 16 and 4 rows, one for each rank, the training ones three for two."""

    def loss(module: Any, batch: Any) -> Tensor:
        losses = cross_entropies(module, batch)
        return losses.mean() if by_batch else losses

    ends = []
    for name, options in (("one", {}), ("two", {"strategy": "ddp_fork", "devices": 2})):
        path = tmp_path / f"{name}.ckpt"
        trainer([Regularize([L2(0.1)], "classification", loss=loss), SaveAtEnd(path)], **options).fit(Dealt())
        ends.append(torch.load(path, weights_only=True)["callbacks"]["Regularize"]["history"])
    for actual, wanted in zip(ends[1], ends[0], strict=True):
        assert actual == pytest.approx(wanted, abs=1e-6)
        assert math.isfinite(actual["gap/loss"])
