"""The callback in a user's own training: what it measures, and when it stops."""

import csv
import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from callback.own_module import LIGHTNING_WARNS, OwnModule, assert_same, loaders, sgd, trainer, weights_of
from reglab.callback.regularize import Regularize
from reglab.core.errors import UserError
from reglab.regularizers import EMA, L1, L2, Dropout, EarlyStopping, Regularizer, WeightDecay

pytestmark = LIGHTNING_WARNS
TASK = "classification"


def members() -> list[Regularizer]:
    return [L1(1e-3), L2(1e-2), WeightDecay(0.1), Dropout(0.2), EMA(0.9)]


class Jittered(TensorDataset):
    """Augments its rows with the global generators of torch and numpy."""

    def __getitem__(self, row: int) -> tuple[Tensor, ...]:
        inputs, target = super().__getitem__(row)
        return inputs + 0.1 * torch.randn_like(inputs) + 0.1 * np.random.standard_normal(), target


@pytest.mark.parametrize("validates", [True, False])
def test_an_empty_list_changes_nothing(validates: bool) -> None:
    """Neither weights nor random state, with a shuffling loader, random augmentation and the
    module's own dropout.
    """
    ends = []
    for callbacks in ([], [Regularize([], TASK)]):
        module = OwnModule(dropout=0.5)
        torch.manual_seed(7)
        np.random.seed(7)
        train, val = DataLoader(Jittered(*loaders()[0].dataset.tensors), 16, shuffle=True), loaders()[1]  # type: ignore[attr-defined]  # a TensorDataset
        options = {} if validates else {"limit_val_batches": 0}
        with pytest.warns(UserWarning, match="no gap") if callbacks and not validates else nullcontext():
            trainer(callbacks, **options).fit(module, train, val)
        ends.append((weights_of(module), torch.get_rng_state(), np.random.get_state()[1].tolist()))
    assert_same(ends[1][0], ends[0][0])
    assert torch.equal(ends[1][1], ends[0][1])
    assert ends[1][2] == ends[0][2]


def test_metrics_equal_an_evaluation_by_hand() -> None:
    module = OwnModule(dropout=0.5)
    start = weights_of(module)
    callback = Regularize([L1(0.02), L2(0.1)], TASK)
    trainer([callback], epochs=3).fit(module, *loaders(shuffle=True))

    module.eval()
    losses, rights = [], []
    for loader in loaders():
        inputs, targets = loader.dataset.tensors  # type: ignore[attr-defined]  # a TensorDataset
        with torch.no_grad():
            outputs = module(inputs)
        losses.append(float(functional.cross_entropy(outputs, targets)))
        rights.append(float((outputs.argmax(1) == targets).double().mean()))
    actual = callback.metrics
    assert actual["train/loss"] == pytest.approx(losses[0], abs=1e-12)
    assert actual["val/loss"] == pytest.approx(losses[1], abs=1e-12)
    assert actual["gap/loss"] == pytest.approx(losses[1] - losses[0], abs=1e-12)
    assert actual["gap/loss_low"] < actual["gap/loss"] < actual["gap/loss_high"]
    assert actual["gap/accuracy"] == pytest.approx(rights[0] - rights[1], abs=1e-6)

    matrices = [module.body[0].weight.detach().numpy(), module.body[3].weight.detach().numpy()]
    everything = np.concatenate([matrix.ravel() for matrix in matrices])
    moved = np.concatenate([(m - s.numpy()).ravel() for m, s in zip(matrices, _matrices(start), strict=True)])
    assert actual["weights/all/l1"] == pytest.approx(np.abs(everything).sum(), abs=1e-10)
    assert actual["weights/all/zeros"] == (everything == 0).mean() > 0
    assert actual["weights/all/distance"] == pytest.approx(np.linalg.norm(moved), abs=1e-10)
    assert "weights/body.0.weight/l2" in actual
    assert [row["epoch"] for row in callback.history] == [0, 1, 2, 3]
    assert callback.history[-1] == {"epoch": 3.0, **callback.metrics}
    # The ridge term, averaged over the steps of the epoch, lies between its values at the ends of
    # the epoch.
    ridge = [0.1 / 2 * row["weights/all/l2"] ** 2 for row in callback.history[-2:]]
    assert min(ridge) < actual["objective/l2"] < max(ridge)


def _matrices(weights: dict[str, Tensor]) -> list[Tensor]:
    return [weight for weight in weights.values() if weight.ndim == 2]


def test_any_logger_and_checkpoint_gets_the_metrics(tmp_path: Path) -> None:
    callback = Regularize([L1(1e-3)], TASK)
    best = ModelCheckpoint(tmp_path / "kept", monitor="val/loss", filename="best")
    logger = CSVLogger(tmp_path, "own")
    options: dict[str, Any] = {"logger": logger, "enable_checkpointing": True}
    trainer([best, callback], epochs=3, **options).fit(OwnModule(), *loaders())

    with (Path(logger.log_dir) / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["gap/loss"]]
    assert len(rows) == 3
    for row, wanted in zip(rows, callback.history[1:], strict=True):
        assert int(row["epoch"]) == wanted["epoch"] - 1  # Lightning counts epochs from 0
        for key, value in wanted.items():
            if key != "epoch":
                assert float(row[key]) == pytest.approx(value, rel=1e-5, abs=1e-6)
    assert float(best.best_model_score) == pytest.approx(min(row["val/loss"] for row in callback.history[1:]))  # type: ignore[arg-type]  # it has a score by then


class LogsTheSame(OwnModule):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/loss", torch.zeros(()))


def test_a_name_that_the_module_logs_too_is_said_once_and_told_apart_by_a_prefix() -> None:
    with pytest.warns(UserWarning, match="the module logs val/loss itself") as predicted:
        trainer([Regularize([], TASK)], epochs=3).fit(LogsTheSame(), *loaders())
    assert sum("itself" in str(warning.message) for warning in predicted) == 1
    run = trainer([Regularize([], TASK, prefix="audited/")])
    run.fit(LogsTheSame(), *loaders())
    assert run.callback_metrics["val/loss"] == 0
    assert run.callback_metrics["audited/val/loss"] > 0


def test_every_other_epoch_and_the_last() -> None:
    callback = Regularize([], TASK, every=2)
    trainer([callback], epochs=5).fit(OwnModule(), *loaders())
    assert [row["epoch"] for row in callback.history] == [0, 2, 4, 5]


def test_without_validation_the_weights_are_measured_and_it_says_so_once() -> None:
    callback = Regularize([L1(1e-3)], TASK)
    with pytest.warns(
        UserWarning, match="measures the weights but no gap: that takes a validation loader"
    ) as predicted:
        trainer([callback], limit_val_batches=0).fit(OwnModule(), *loaders())
    assert sum("no gap" in str(warning.message) for warning in predicted) == 1
    assert not any(key.startswith(("gap/", "val/", "train/")) for key in callback.metrics)
    assert callback.metrics["weights/all/l1"] > 0


@pytest.mark.filterwarnings("ignore:Regularize measures the weights")
@pytest.mark.parametrize("options", [{"limit_val_batches": 0}, {}], ids=["no loader", "every=None"])
def test_early_stopping_without_a_gap_is_an_error(options: dict[str, Any]) -> None:
    callback = Regularize([EarlyStopping(2)], TASK, every=1 if options else None)
    with pytest.raises(UserError, match="early_stopping watches val/loss"):
        trainer([callback], **options).fit(OwnModule(), *loaders())


def test_several_validation_loaders_are_not_mixed() -> None:
    train, val = loaders()
    callback = Regularize([], TASK)
    with pytest.warns(UserWarning, match="there are 2 validation loaders"):
        trainer([callback]).fit(TwoLoaders(), train, [val, val])
    assert "gap/loss" not in callback.metrics


class TwoLoaders(OwnModule):
    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None: ...


class DictBatches(OwnModule):
    """Batches are dicts, with inputs at half their size until a hook has seen them."""

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch | {"x": 2 * batch["x"]}

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch | {"x": batch["x"] + 100} if self.trainer.training else batch

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return functional.cross_entropy(self(batch["x"] - 100), batch["y"])

    def validation_step(self, batch: Any, batch_idx: int) -> None: ...


def test_batches_of_any_shape_are_unpacked_after_the_modules_own_hooks() -> None:
    def collate(rows: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        return {"x": torch.stack([row[0] for row in rows]) / 2, "y": torch.stack([row[1] for row in rows])}

    train, val = (DataLoader(loader.dataset, 16, collate_fn=collate) for loader in loaders())
    plain, dicts = (
        Regularize([L2(0.1)], TASK),
        Regularize([L2(0.1)], TASK, unpack=lambda batch: (batch["x"], batch["y"])),
    )
    trainer([plain]).fit(OwnModule(), *loaders())
    trainer([dicts]).fit(DictBatches(), train, val)
    assert dicts.metrics == pytest.approx(plain.metrics, abs=1e-9)
    with pytest.raises(UserError, match="unpack=lambda batch"):
        trainer([Regularize([], TASK)]).fit(DictBatches(), train, val)


def test_early_stopping_stops() -> None:
    run = trainer([Regularize([EarlyStopping(2, min_delta=100.0)], TASK)], epochs=50)
    run.fit(OwnModule(), *loaders())
    assert run.current_epoch == 3  # the first counts as an improvement


class LowPrecision(OwnModule):
    def forward(self, inputs: Tensor) -> Tensor:
        return functional.linear(inputs.float(), self.body[0].weight.float())[:, :3]


def test_a_module_is_measured_in_the_precision_that_it_trains_in() -> None:
    callback, module = Regularize([], TASK), LowPrecision()
    trainer([callback], precision="bf16-mixed").fit(module, *loaders())
    inputs, targets = loaders()[1].dataset.tensors  # type: ignore[attr-defined]  # a TensorDataset
    with torch.no_grad():
        exact = functional.cross_entropy(module(inputs), targets)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = functional.cross_entropy(module(inputs).float(), targets)
    assert abs(float(rounded - exact)) > 1e-5
    assert callback.metrics["val/loss"] == pytest.approx(float(rounded), abs=1e-6)


class Regressor(OwnModule):
    def __init__(self) -> None:
        super().__init__(sgd)
        self.body = nn.Sequential(nn.Linear(6, 1).double())

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return functional.mse_loss(self(batch[0])[:, 0], batch[1].double())


def test_scores_are_measured_where_they_are_asked_for() -> None:
    callback = Regularize([], TASK, scores=["auroc", "brier"])
    trainer([callback]).fit(OwnModule(), *loaders())
    assert {"val/auroc", "gap/auroc_low", "train/brier", "val/brier_se"} < set(callback.metrics)
    with pytest.raises(UserError, match="rmse is a score of regression, and the task is classification"):
        Regularize([], TASK, scores=["rmse"])


def test_regression_has_r2() -> None:
    callback = Regularize([], "regression")
    module = Regressor()
    module.validation_step = lambda batch, batch_idx: None  # type: ignore[assignment]  # one that returns nothing
    trainer([callback]).fit(module, *loaders())
    assert math.isfinite(callback.metrics["gap/r2"])


class Dealt(OwnModule):
    """Deals its rows out to ranks like cards, in order: two ranks of 8 see what one process sees in
    a batch of 16.
    """

    def train_dataloader(self) -> Any:
        data, ranks = loaders()[0].dataset, self.trainer.world_size
        sampler: DistributedSampler[Any] = DistributedSampler(data, ranks, self.trainer.global_rank, shuffle=False)
        return DataLoader(data, 16 // ranks, sampler=sampler)

    def val_dataloader(self) -> Any:
        return loaders()[1]


@pytest.mark.filterwarnings("ignore:.*recommended to use `self.log\\('own_loss'")
def test_two_ranks_equal_one_process_on_the_joint_batch(tmp_path: Path) -> None:
    ends = []
    for name, options in (("one", {}), ("two", {"strategy": "ddp_fork", "devices": 2})):
        path = tmp_path / f"{name}.ckpt"
        trainer([Regularize(members(), TASK), SaveAtEnd(path)], **options).fit(Dealt(dropout=0.3))
        ends.append(torch.load(path, weights_only=True))
    assert_same(ends[1]["state_dict"], ends[0]["state_dict"], 1e-12)
    history = [end["callbacks"]["Regularize"]["history"] for end in ends]
    for actual, wanted in zip(history[1], history[0], strict=True):
        assert actual == pytest.approx(wanted, abs=1e-6)


class SaveAtEnd(pl.Callback):
    def __init__(self, path: Path) -> None:
        self.path = path

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.save_checkpoint(self.path)
