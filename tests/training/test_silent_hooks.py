"""Layers whose forward the model never calls: a hook there does nothing, and that is said before
training.
"""

import fused_harness as fused
import laws_harness as harness
import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations
from torch.utils.data import DataLoader, TensorDataset

from reglab.callback.regularize import Regularize
from reglab.core.errors import UserError
from reglab.regularizers import Cocktail, Dropout
from reglab.training import silent_hooks
from reglab.training.fused.pack import Pack
from reglab.training.silent_hooks import check_hooks
from reglab.training.trainer import quiet_lightning


@pytest.fixture(autouse=True)
def nothing_said():
    silent_hooks.warn_once.cache_clear()


class Functional(nn.Module):
    """Uses the weights of its second layer without calling it; of the third, too, if ``all`` are
    wanted so.
    """

    def __init__(self, every=False):
        super().__init__()
        self.first = nn.Linear(harness.FEATURES, 8)
        self.norm = nn.BatchNorm1d(8)
        self.second = nn.Linear(8, 8)
        self.head = nn.Linear(8, harness.CLASSES)
        self.every = every

    def forward(self, inputs):
        hidden = functional.linear(self.norm(self.first(inputs)), self.second.weight, self.second.bias).relu()
        return functional.linear(hidden, self.head.weight) if self.every else self.head(hidden)


class Attention(nn.Module):
    def __init__(self, fast=False):
        super().__init__()
        self.embed = nn.Linear(harness.FEATURES, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, harness.CLASSES)

    def forward(self, inputs):
        return self.head(self.block(self.embed(inputs)[:, None])[:, 0])


def seeded(build):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build()


def job(build, **options):
    return harness.experiment({"dropout": Dropout(0.5)}, model=seeded(build), epochs=1, **options)


def test_a_layer_that_is_not_called_is_named_once_and_nothing_is_left_changed(caplog):
    model, data = seeded(Functional), harness.blobs()
    cocktail = Cocktail({"dropout": Dropout(0.5)}, 0, "classification")
    model = cocktail.prepare(model).eval()
    before, state = {name: t.clone() for name, t in model.state_dict().items()}, torch.get_rng_state()
    for _ in range(3):
        check_hooks(model, cocktail, data.train.inputs, data.train.index)
    assert [record.getMessage() for record in caplog.records] == [
        "regularizer.dropout does not act on second: the model uses their weights without calling these layers"
    ]
    harness.assert_same_bits(before, model.state_dict())
    assert torch.equal(torch.get_rng_state(), state)
    assert not model.training
    assert cocktail.keys.index is None
    assert all(len(module._forward_pre_hooks) <= 1 for module in model.modules())


@pytest.mark.parametrize("together", [False, True])
def test_it_is_said_solo_and_fused_and_refused_where_nothing_acts(together, caplog):
    def run(build):
        if together:
            Pack([fused.job({"dropout": Dropout(rate)}, model=seeded(build)) for rate in (0.5, 0.2)])
        else:
            harness.trained(job(build))

    run(Functional)
    assert "does not act on second" in caplog.text
    with pytest.raises(
        UserError, match=r"regularizer\.dropout has no effect.*uses the weights of second, head without"
    ):
        run(lambda: Functional(every=True))


def test_of_attention_the_layers_that_are_called_have_dropout_and_nothing_is_said(caplog):
    model = seeded(Attention)
    cocktail = Cocktail({"dropout": Dropout(0.5)}, 0, "classification")
    cocktail.prepare(model)
    assert cocktail.hooked["dropout"] == ["block.linear1", "block.linear2", "head"]
    check_hooks(model, cocktail, harness.blobs().train.inputs, harness.blobs().train.index)
    assert not caplog.records


def test_a_model_of_nothing_but_attention_is_refused():
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.attend = nn.MultiheadAttention(8, 2)

    with pytest.raises(UserError, match=r"dropout found no nn\.Linear"):
        Cocktail({"dropout": Dropout(0.5)}, 0, "classification").prepare(Bare())


def test_parametrized_and_tied_layers_have_dropout_and_it_acts():
    model = nn.Sequential(nn.Linear(6, 8), *(nn.Linear(8, 8) for _ in range(3)))
    parametrizations.weight_norm(model[1])
    model[3].weight = model[2].weight
    cocktail = Cocktail({"dropout": Dropout(0.5)}, 0, "classification")
    cocktail.prepare(model)
    assert cocktail.hooked["dropout"] == ["1", "2", "3"]
    check_hooks(model, cocktail, torch.randn(5, 6), torch.arange(5))
    inputs = torch.ones(4, 8)
    cocktail.keys.index = torch.arange(4)
    assert not torch.equal(model[1].train()(inputs), model[1].eval()(inputs))


class Module(pl.LightningModule):
    def __init__(self, every=False):
        super().__init__()
        self.net = Functional(every)

    def forward(self, inputs):
        return self.net(inputs)

    def training_step(self, batch, batch_idx):
        return functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("own", functional.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def test_a_callback_says_it_after_the_first_step(tmp_path, caplog):
    part = harness.blobs().train
    loader = DataLoader(TensorDataset(part.inputs, part.targets), batch_size=11)

    def fit(module):
        callback = Regularize([Dropout(0.5)], "classification")
        options = {
            "enable_progress_bar": False,
            "enable_checkpointing": False,
            "enable_model_summary": False,
            "accelerator": "cpu",
        }
        with quiet_lightning():
            trainer = pl.Trainer(max_epochs=1, callbacks=[callback], logger=False, default_root_dir=tmp_path, **options)
            trainer.fit(module, loader, loader)

    fit(seeded(Module))
    assert "regularizer.dropout does not act on net.second" in caplog.text
    with pytest.raises(UserError, match="has no effect"):
        fit(seeded(lambda: Module(every=True)))
