import re
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from reglab.core.errors import UserError
from reglab.models import CNN, MLP, Linear, build

CONF = Path(__file__).parents[2] / "conf" / "model"


class TakesOthersNames(nn.Module):
    def __init__(self, input_dim, n_classes, hidden=4):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(input_dim, hidden), nn.Linear(hidden, n_classes))

    def forward(self, inputs):
        return self.net(inputs)


class TakesChannels(nn.Module):
    def __init__(self, in_channels: int, num_classes: int):
        super().__init__()
        self.net = nn.Sequential(nn.Conv1d(in_channels, num_classes, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten())

    def forward(self, inputs):
        return self.net(inputs)


class TakesShape(nn.Module):
    def __init__(self, input_shape, outputs):
        super().__init__()
        self.seen = input_shape
        self.head = nn.LazyLinear(outputs)

    def forward(self, inputs):
        return self.head(inputs.flatten(1))


class TakesAnIntegerCalledInputs(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.head = nn.Linear(inputs, outputs)

    def forward(self, inputs):
        return self.head(inputs.flatten(1))


class TakesAnythingElse(nn.Module):
    def __init__(self, vocabulary, **options):
        super().__init__()
        self.options = options


class ReturnsTwo(nn.Linear):
    def forward(self, inputs):
        return super().forward(inputs), inputs


class Squeezes(nn.Linear):
    def forward(self, inputs):
        return super().forward(inputs).squeeze(-1)


@pytest.fixture(autouse=True)
def own_classes(monkeypatch):
    """Trust the classes of this file, as a user does with a package."""
    monkeypatch.setenv("REGLAB_TRUST", __name__.partition(".")[0])


def target(cls, **options):
    return {"_target_": f"{cls.__module__}.{cls.__qualname__}", **options}


@pytest.mark.parametrize(
    "name, cls, shape", [("linear", Linear, (64,)), ("mlp", MLP, (64,)), ("cnn", CNN, (1, 8, 8)), ("cnn", CNN, (1, 40))]
)
def test_every_yaml_builds_its_model(name, cls, shape):
    config = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))
    model = build(config, shape, 10)
    assert type(model) is cls
    assert model(torch.zeros(3, *shape)).shape == (3, 10)
    assert model.training


def test_the_custom_yaml_asks_for_a_class():
    with pytest.raises(UserError, match=r"model\._target_"):
        build(OmegaConf.to_container(OmegaConf.load(CONF / "custom.yaml")), (64,), 10)


@pytest.mark.parametrize(
    "cls, shape",
    [
        (TakesOthersNames, (2, 5)),
        (TakesChannels, (2, 9)),
        (TakesShape, (2, 5)),
        (TakesAnIntegerCalledInputs, (2, 5)),
        (nn.Linear, (10,)),
    ],
)
def test_sizes_are_filled_in_by_well_known_names(cls, shape):
    assert build(target(cls), shape, 3)(torch.zeros(4, *shape)).shape == (4, 3)


def test_a_shape_arrives_whole_and_lazy_layers_get_their_sizes():
    model = build(target(TakesShape), (2, 5), 3)
    assert model.seen == (2, 5)
    assert model.head.weight.shape == (3, 10)


def test_what_the_config_gives_is_kept():
    with pytest.raises(UserError, match=r"gave outputs of shape \[2, 4\] .* need \[2, 3\]"):
        build(target(TakesOthersNames, n_classes=4), (5,), 3)


def test_one_output_may_come_without_a_column():
    assert build(target(Squeezes), (5,), 1)(torch.zeros(4, 5)).shape == (4,)


@pytest.mark.parametrize(
    "config, shape, message",
    [
        ({}, (5,), "_target_ must be the dotted path"),
        ({"_target_": "builtins.open"}, (5,), "Python's module builtins"),
        ({"_target_": "torch.load"}, (5,), r"torch \(unlike torch\.nn and torch\.optim\) is not trusted"),
        ({"_target_": "torch.nn.Liner"}, (5,), "did you mean 'Linear'"),
        ({"_target_": "no_such_package.Net"}, (5,), r"add trust=\[no_such_package\]"),
        (target(MLP, widht=8), (5,), "model.widht: MLP has no such argument; did you mean 'width'"),
        (target(MLP, width=-8), (5,), "width=-8"),
        (target(TakesAnythingElse), (5,), "needs vocabulary; give it on the command line"),
        (target(TakesChannels), (5,), "takes in_channels, but the inputs are flat.*data.shape=image"),
        (target(CNN), (64,), "data.shape=image"),
        (target(nn.Linear), (2, 5), r"Linear cannot read inputs of shape \[rows, 2, 5\]"),
        (target(ReturnsTwo), (5,), "must return one tensor of outputs, got tuple"),
        (target(nn.Identity), (5,), r"gave outputs of shape \[2, 5\] for 2 rows, but the data need \[2, 3\]"),
    ],
)
def test_what_does_not_fit_is_named(config, shape, message):
    with pytest.raises(UserError, match=message):
        build(config, shape, 3)


def test_the_error_of_a_broken_constructor_is_passed_on():
    with pytest.raises(UserError, match=re.escape("model:")):
        build({"_target_": "torch.nn.Conv1d", "kernel_size": 3, "groups": 3, "padding": "odd"}, (2, 5), 3)


def test_trying_the_model_leaves_its_statistics_alone():
    model = build(target(MLP, norm="batch"), (5,), 3)
    assert model.hidden[0].norm.num_batches_tracked == 0
    assert torch.equal(model.hidden[0].norm.running_var, torch.ones(256))


class ReadsTokens(nn.Module):
    def __init__(self, vocab_size, num_classes):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, num_classes)

    def forward(self, inputs):
        return self.embedding(inputs).mean(1)


def test_a_model_of_tokens_gets_their_number_and_is_tried_on_the_largest():
    assert build(target(ReadsTokens), (5,), 3, tokens=7).embedding.num_embeddings == 7
    with pytest.raises(UserError, match="token ids from 0 to 6: index out of range"):
        build(target(ReadsTokens, vocab_size=6), (5,), 3, tokens=7)
    with pytest.raises(UserError, match="needs vocab_size"):
        build(target(ReadsTokens), (5,), 3)
