"""Averaged weights, interruption, checkpoints and resuming under the callback."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import Adam
from torch.utils.data import ConcatDataset, DataLoader, Subset

from callback.own_module import LIGHTNING_WARNS, VAL_ROWS, OwnModule, assert_same, loaders, trainer, weights_of
from reglab.analysis import per_example_file
from reglab.callback.regularize import Regularize
from reglab.core.errors import UserError
from reglab.regularizers import EMA, L1, L2, Dropout, EarlyStopping, Regularizer, WeightDecay

pytestmark = LIGHTNING_WARNS
TASK = "classification"


def adam(weights: Any) -> Any:
    return Adam(weights, lr=0.05)


def members() -> list[Regularizer]:
    return [L1(1e-3), L2(1e-2), WeightDecay(0.1), Dropout(0.2), EMA(0.9)]


def test_validation_test_and_prediction_see_the_average_and_training_does_not() -> None:
    callback = Regularize([EMA(0.99)], TASK)
    module = Watching()
    run = trainer([callback], epochs=2)
    run.fit(module, *loaders())
    trained = module.body[0].weight.detach().clone()
    with callback.cocktail.evaluating(module):
        average = module.body[0].weight.detach().clone()
    assert not torch.equal(average, trained)

    for go in (run.validate, run.test, run.predict):
        module.seen_by_validation.clear()
        go(module, loaders()[1], **({} if go == run.predict else {"verbose": False}))
        assert all(torch.equal(observed, average) for observed in module.seen_by_validation)
        assert module.seen_by_validation
        assert torch.equal(module.body[0].weight, trained)
    fresh = OwnModule()
    trainer([]).fit(fresh, *loaders())
    assert_same(weights_of(module), weights_of(fresh))

    module.eval()
    inputs, targets = loaders()[1].dataset.tensors  # type: ignore[attr-defined]  # a TensorDataset
    with callback.cocktail.evaluating(module), torch.no_grad():
        loss = functional.cross_entropy(module(inputs), targets)
    assert callback.metrics["val/loss"] == pytest.approx(float(loss), abs=1e-12)
    assert callback.metrics["weights/averaged/l2"] != callback.metrics["weights/all/l2"]


class Watching(OwnModule):
    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.validation_step(batch, batch_idx)

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.validation_step(batch, batch_idx)
        return batch[1]

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.seen_by_validation.append(self.body[0].weight.detach().clone())


class Interrupted(Watching):
    """Is stopped in the middle of its second validation, after it saw averaged weights."""

    stop_with: type[BaseException] = KeyboardInterrupt

    def on_train_epoch_start(self) -> None:
        self.epochs = getattr(self, "epochs", 0) + 1

    def on_validation_epoch_start(self) -> None:
        self.at_validation = self.body[0].weight.detach().clone()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        if getattr(self, "epochs", 0) == 2 and batch_idx == 1:
            raise self.stop_with


@pytest.fixture
def _signals() -> Iterator[None]:
    """Lightning ignores Ctrl-C from the first one on, also for whoever runs next."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_signals")
@pytest.mark.parametrize("stop_with, becomes", [(KeyboardInterrupt, SystemExit), (ValueError, ValueError)])
def test_an_interrupted_validation_leaves_the_trained_weights(stop_with: Any, becomes: Any) -> None:
    module = Interrupted()
    module.stop_with = stop_with
    with pytest.raises(becomes):
        trainer([Regularize([EMA(0.99)], TASK, every=None)], num_sanity_val_steps=0).fit(module, *loaders())
    fresh = OwnModule()
    trainer([]).fit(fresh, *loaders())
    assert_same(weights_of(module), weights_of(fresh))
    assert not torch.equal(module.at_validation, module.body[0].weight)
    assert not module._state_dict_hooks


class SavesInValidation(Watching):
    folder: Path

    def on_validation_epoch_end(self) -> None:
        for name in ("whole", "slim"):
            self.trainer.save_checkpoint(self.folder / f"{name}.ckpt", weights_only=name == "slim")


def test_a_checkpoint_saved_while_averages_are_in_place_has_the_trained_weights(tmp_path: Path) -> None:
    module = SavesInValidation()
    module.folder = tmp_path
    trainer([Regularize([EMA(0.99)], TASK)]).fit(module, *loaders())
    for name in ("whole", "slim"):
        saved = torch.load(tmp_path / f"{name}.ckpt", weights_only=True)["state_dict"]
        assert_same(saved, weights_of(module))


def test_a_resumed_fit_goes_on_as_if_never_interrupted(tmp_path: Path) -> None:
    path = tmp_path / "middle.ckpt"
    module, callback = OwnModule(adam, dropout=0.3), Regularize([*members(), EarlyStopping(9)], TASK, seed=3)
    trainer([callback], epochs=5).fit(module, *loaders())

    half = trainer([Regularize([*members(), EarlyStopping(9)], TASK, seed=3)], epochs=2)
    half.fit(OwnModule(adam, dropout=0.3), *loaders())
    half.save_checkpoint(path)
    again, resumed = OwnModule(adam, dropout=0.3), Regularize([*members(), EarlyStopping(9)], TASK, seed=11)
    trainer([resumed], epochs=5).fit(again, *loaders(), ckpt_path=path, weights_only=True)

    assert_same(weights_of(again), weights_of(module))
    assert resumed.history == callback.history[2:]  # its checkpoint has the last row alone
    state, wanted = resumed.cocktail.state_dict(), callback.cocktail.state_dict()
    assert_same(dict(state), dict(wanted))


def test_a_checkpoint_judges_by_its_average_without_a_fit(tmp_path: Path) -> None:
    callback, module = Regularize([EMA(0.9)], TASK), Watching()
    run = trainer([callback])
    run.fit(module, *loaders())
    run.save_checkpoint(tmp_path / "end.ckpt")
    with callback.cocktail.evaluating(module):
        average = module.body[0].weight.detach().clone()
    fresh = Watching()
    again = trainer([Regularize([EMA(0.9)], TASK)])
    again.validate(fresh, loaders()[1], ckpt_path=tmp_path / "end.ckpt", weights_only=True, verbose=False)
    assert torch.equal(fresh.seen_by_validation[0], average)
    again.fit(fresh, *loaders())  # what was made for validation can be trained


def test_a_checkpoint_of_other_regularizers_is_refused(tmp_path: Path) -> None:
    run = trainer([Regularize([EMA(0.9)], TASK)])
    run.fit(OwnModule(), *loaders())
    run.save_checkpoint(tmp_path / "end.ckpt")
    with pytest.raises(UserError, match="the checkpoint holds other regularizers than l1"):
        trainer([Regularize([L1(0.1)], TASK)], epochs=3).fit(
            OwnModule(), *loaders(), ckpt_path=tmp_path / "end.ckpt", weights_only=True
        )


def test_losses_by_example_are_kept_with_the_rows_numbers_and_logged(tmp_path: Path) -> None:
    from mlflow import MlflowClient
    from pytorch_lightning.loggers import MLFlowLogger

    train, val = loaders()
    whole = ConcatDataset([val.dataset, train.dataset])
    rows = torch.randperm(VAL_ROWS, generator=torch.Generator().manual_seed(1))[:12].tolist()
    train = DataLoader(Subset(whole, range(VAL_ROWS, len(whole))), batch_size=8, shuffle=True)
    val = DataLoader(Subset(whole, rows), batch_size=8)
    uri = f"sqlite:///{tmp_path / 'user.db'}"
    logger = MLFlowLogger(tracking_uri=uri, artifact_location=str(tmp_path / "artifacts"))
    module, callback = OwnModule(adam), Regularize([EMA(0.9)], TASK)
    trainer([callback], logger=logger).fit(module, train, val)

    (kept,) = tmp_path.glob("artifacts/*/artifacts/examples.npz")
    actual = per_example_file.read(kept)
    assert [each.path for each in MlflowClient(uri).list_artifacts(logger.run_id)] == ["examples.npz"]
    assert actual.val_index.tolist() == rows
    assert actual.probe_index.tolist() == list(range(VAL_ROWS, len(whole)))
    inputs, targets = (torch.stack(list(part)) for part in zip(*(whole[row] for row in rows), strict=True))
    with callback.cocktail.evaluating(module), torch.no_grad():
        losses = functional.cross_entropy(module(inputs), targets, reduction="none")
    torch.testing.assert_close(torch.from_numpy(actual.val_loss), losses, rtol=1e-10, atol=0)
    assert callback.examples is not None
    assert callback.examples.val_loss.mean() == pytest.approx(callback.metrics["val/loss"], rel=1e-12)
