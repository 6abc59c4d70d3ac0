"""What a module or callback raises inside Lightning's loops ends the fit, and a logger's run, as failed."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from mlflow.entities import Run
from pytorch_lightning.loggers import MLFlowLogger
from torch import Tensor

from callback.own_module import LIGHTNING_WARNS, OwnModule, loaders, trainer
from reglab import L1, Regularize
from reglab.core.errors import CodeFailed

pytestmark = LIGHTNING_WARNS


class Raising(OwnModule):
    """Raises in one of its hooks, at the second call."""

    def __init__(self, where: str, error: BaseException) -> None:
        super().__init__()
        self.where, self.error, self.calls = where, error, 0

    def act(self, where: str) -> None:
        self.calls += where == self.where
        if self.calls == 2 and where == self.where:
            raise self.error

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.act("training_step")
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.act("validation_step")
        super().validation_step(batch, batch_idx)

    def on_after_backward(self) -> None:
        self.act("on_after_backward")

    def on_train_batch_end(self, *given: Any) -> None:
        self.act("on_train_batch_end")

    def on_validation_epoch_end(self) -> None:
        self.act("on_validation_epoch_end")


class Stopping(pl.Callback):
    """A callback that raises StopIteration."""

    def on_train_batch_end(self, *given: Any) -> None:
        raise StopIteration("of a callback")


HOOKS = ("training_step", "validation_step", "on_after_backward", "on_train_batch_end", "on_validation_epoch_end")


def run_of(logger: MLFlowLogger) -> Run:
    found = logger.experiment.get_run(str(logger.run_id))
    assert isinstance(found, Run)
    return found


@pytest.mark.parametrize("where", HOOKS)
def test_stop_iteration_reaches_the_user(where: str) -> None:
    fitting = trainer([Regularize([L1(1e-4)], task="classification")], num_sanity_val_steps=0)
    module = Raising(where, StopIteration("used up"))
    with pytest.raises(CodeFailed, match="StopIteration: used up"):
        fitting.fit(module, *loaders())
    assert not [name for name in vars(module) if name.startswith("on_") or name.endswith("_step")]


def test_stop_iteration_of_another_callback_reaches_the_user() -> None:
    fitting = trainer([Stopping(), Regularize([], "classification")])
    with pytest.raises(CodeFailed, match="StopIteration: of a callback"):
        fitting.fit(OwnModule(), *loaders())


@pytest.mark.parametrize(
    "error, raised",
    [
        (StopIteration("used up"), CodeFailed),
        (SystemExit(0), SystemExit),
        (BrokenPipeError(32, "a pipe"), BrokenPipeError),
        (KeyboardInterrupt("mine"), SystemExit),  # Lightning's own end, with exit code 1
    ],
)
def test_the_run_of_the_users_logger_is_failed(
    error: BaseException, raised: type[BaseException], tmp_path: Path
) -> None:
    logger = MLFlowLogger("own", tracking_uri=f"sqlite:///{tmp_path / 'own.db'}")
    fitting = trainer([Regularize([L1(1e-4)], task="classification")], logger=logger)
    with pytest.raises(raised):
        fitting.fit(Raising("training_step", error), *loaders())
    assert run_of(logger).info.status == "FAILED"


class FromIterator(OwnModule):
    """Takes its batches itself: StopIteration ends its epoch by right."""

    def training_step(self, dataloader_iter: Any) -> Tensor:
        batch, index, _ = next(dataloader_iter)
        return super().training_step(batch, index)


@pytest.mark.filterwarnings("ignore:.*dataloader_iter")
def test_a_step_that_takes_the_iterator_ends_its_epoch() -> None:
    fitting = trainer([Regularize([], task="classification", every=None)], epochs=2)
    fitting.fit(FromIterator(), *loaders())
    assert fitting.state.finished
    assert fitting.current_epoch == 2


def test_hooks_that_an_object_holds_itself_stay() -> None:
    called: list[str] = []
    names = ("on_train_epoch_end", "on_fit_end", "teardown")
    hooks: Any = {name: lambda *_, name=name, **__: called.append(name) for name in names}
    callback, module = pl.callbacks.LambdaCallback(**hooks), OwnModule()
    own = module.training_step
    module.training_step = lambda *given: own(*given)  # type: ignore[method-assign]  # as people patch modules
    for _ in range(2):
        trainer([Regularize([], "classification"), callback], epochs=1).fit(module, *loaders())
    assert called == [*names, *names]
    assert "training_step" in vars(module)


class Copying(pl.Callback):
    """Copies the module in the middle of a fit, as an average of weights or a teacher does."""

    def __init__(self, path: Path) -> None:
        self.path, self.losses = path, list[float]()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        with torch.no_grad():
            torch.save(pl_module, self.path)
            for copied in (copy.deepcopy(pl_module), torch.load(self.path, weights_only=False)):
                copied.trainer = trainer
                for weight in copied.parameters():
                    weight.zero_()
                self.losses.append(float(copied.training_step(batch, batch_idx)))


def test_a_copy_of_the_module_is_whole(tmp_path: Path) -> None:
    copying = Copying(tmp_path / "module.pt")
    trainer([Regularize([L1(1e-4)], "classification"), copying], epochs=1).fit(OwnModule(), *loaders())
    assert copying.losses == pytest.approx([math.log(3)] * len(copying.losses))  # of zeros, whatever the module learned
