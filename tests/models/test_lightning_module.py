"""A LightningModule is refused where its own training step would not be called."""

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

import reglab
from reglab import models
from reglab.config import trust
from reglab.core.errors import UserError
from reglab.models.lightning_module import check_plain


class Network(pl.LightningModule):
    """Has no step of its own, as a network may."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(inputs, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        output: Tensor = self.layer(inputs)
        return output


class Trained(Network):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        raise AssertionError("it was called")


class Inherited(Trained): ...


class Optimized(Network):
    def configure_optimizers(self) -> Any:
        raise AssertionError("it was called")


class Plain(nn.Linear):
    """No LightningModule, whatever its methods are called."""

    def training_step(self) -> None: ...


@pytest.mark.parametrize("model", [Trained, Inherited, Optimized])
def test_what_would_not_be_called_is_refused(model: type[nn.Module]) -> None:
    config = {"_target_": f"{__name__}.{model.__name__}"}
    with trust.isolated():
        trust.trust(__name__.partition(".")[0])
        with pytest.raises(UserError, match=rf"{model.__name__} is a LightningModule, .*reglab\.Regularize"):
            models.build(config, (4,), 3)
    with pytest.raises(UserError, match=rf"reglab\.fit: {model.__name__} is a LightningModule"):
        reglab.fit(model(4, 3), reglab.dataset(torch.randn(60, 4), torch.arange(60) % 3), epochs=1)


@pytest.mark.parametrize("model", [Network, Plain, nn.Linear])
def test_a_network_is_a_network(model: type[nn.Module]) -> None:
    check_plain(model, "model")
