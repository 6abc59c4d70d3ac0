"""Modules written against ``import lightning`` train as those against ``pytorch_lightning`` do."""

from pathlib import Path
from types import ModuleType
from typing import Any

import lightning.pytorch
import pytest
import pytorch_lightning
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, SubsetRandomSampler

from callback.own_module import CLASSES, FEATURES, LIGHTNING_WARNS, dataset, weights_of
from reglab import EMA, L1, SAM, Dropout, EarlyStopping, Flooding, Regularize
from reglab.core.errors import UserError

pytestmark = LIGHTNING_WARNS
PACKAGES = (pytorch_lightning, lightning.pytorch)


def module_of(package: Any) -> Any:
    """Return a module as it is written against this package."""

    class Module(package.LightningModule):  # type: ignore[misc]  # of either
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(3)
            self.net = nn.Sequential(nn.Linear(FEATURES, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, CLASSES)).double()

        def forward(self, inputs: Tensor) -> Any:
            return self.net(inputs)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return functional.cross_entropy(self(batch[0]), batch[1])

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("own_loss", functional.cross_entropy(self(batch[0]), batch[1]))

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), 1e-2)

    return Module()


def own_loss(module: Any, batch: Any) -> Tensor:
    return functional.cross_entropy(module(batch[0]), batch[1], reduction="none")


def of_the_loss() -> Regularize:
    """Members that need the loss, an own loss and score, rows that are read again."""
    members = [L1(1e-2), Dropout(0.2), EMA(0.5), Flooding(0.9), SAM(0.1)]
    scores = {"sure": lambda outputs, targets: outputs.amax(1)}
    return Regularize(members, loss=own_loss, scores=scores, memory_mb=0)


def fitted(
    package: ModuleType, folder: Path, epochs: int, resume: str | None = None, own: bool = False, **options: Any
) -> Any:
    """Return module and callback after a fit, whose checkpoint is ``folder``/last.ckpt."""
    module = module_of(package)
    callback = Regularize([L1(1e-2), Dropout(0.2), EMA(0.5), EarlyStopping(9)], "classification")
    callback = of_the_loss() if own else callback
    run: Any = package.Trainer(
        callbacks=[callback], max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, **options,
    )  # fmt: skip
    data = dataset(48, 2)
    train = DataLoader(data, 8, sampler=SubsetRandomSampler(range(40), torch.Generator().manual_seed(1)))
    run.fit(module, train, DataLoader(dataset(20, 3), 8), ckpt_path=resume)
    run.save_checkpoint(folder / "last.ckpt")
    return module, callback


@pytest.mark.parametrize("options", [{}, {"gradient_clip_val": 0.1}, {"limit_val_batches": 1}, {"own": True}], ids=str)
def test_they_end_at_the_same_weights_and_gap(tmp_path: Path, options: dict[str, Any]) -> None:
    ends = [fitted(package, tmp_path, 3, **options) for package in PACKAGES]
    (first, ours), (second, theirs) = ends
    assert weights_of(first).keys() == weights_of(second).keys()
    assert all(torch.equal(weight, weights_of(second)[name]) for name, weight in weights_of(first).items())
    assert ours.history == theirs.history
    assert ours.examples.val_index.tolist() == theirs.examples.val_index.tolist()


def test_a_checkpoint_of_one_is_resumed_by_it(tmp_path: Path) -> None:
    fitted(lightning.pytorch, tmp_path, 2)
    _, callback = fitted(lightning.pytorch, tmp_path, 3, str(tmp_path / "last.ckpt"))
    assert [row["epoch"] for row in callback.history] == [2.0, 3.0]


def test_what_does_not_fit_is_refused_in_either(tmp_path: Path) -> None:
    for package in PACKAGES:
        module: Any = module_of(package)
        optimizers = [torch.optim.SGD([weight], 0.1) for weight in module.parameters()]
        module.configure_optimizers = lambda optimizers=optimizers: optimizers
        module.automatic_optimization = False
        callbacks = [Regularize([L1(1e-2)], "classification")]
        options: Any = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}
        run: Any = package.Trainer(callbacks=callbacks, max_epochs=1, default_root_dir=tmp_path, **options)
        with pytest.raises(UserError, match="regularizers follow the steps of one optimizer"):
            run.fit(module, DataLoader(dataset(16, 2), 8), DataLoader(dataset(8, 3), 8))
