"""The blocks of a model, and modules by patterns."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from reglab.core.errors import UserError
from reglab.distributed.module_blocks import blocks, matching
from reglab.models import CNN, MLP


class Bottleneck(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3)
        self.downsample = nn.Sequential(nn.Conv2d(width, width, 1), nn.BatchNorm2d(width))


class Residual(nn.Module):
    """The shape of a ResNet: a stem, stages of bottlenecks, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = parametrizations.orthogonal(nn.Conv2d(3, 4, 3))
        self.layer1 = nn.Sequential(Bottleneck(4), Bottleneck(4))
        self.layer2 = nn.Sequential(Bottleneck(4))
        self.fc = nn.Linear(4, 2)


class Scaled(nn.Module):
    """A parametrization that has a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.factor


def names(actual: list[tuple[str, nn.Module]]) -> list[str]:
    return [name for name, _ in actual]


def test_blocks_are_bottlenecks_layers_and_linear_maps() -> None:
    assert names(blocks(Residual())) == ["layer1.0", "layer1.1", "layer2.0"]
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
    assert names(blocks(encoder)) == ["layers.0", "layers.1", "layers.2"]
    assert names(blocks(MLP(width=4, inputs=3, outputs=2))) == ["hidden.0.linear", "hidden.1.linear"]
    actual = names(blocks(CNN(channels=[2, 3], norm="batch", inputs=(1, 8, 8), outputs=2)))
    assert actual == [f"blocks.{index}.{part}" for index in (0, 1) for part in ("convolution", "norm")]
    for name, block in blocks(encoder):
        assert block is encoder.get_submodule(name)


def test_a_module_that_stands_twice_is_one_block_and_no_block_lies_in_another() -> None:
    shared = nn.Linear(4, 4)
    assert names(blocks(nn.Sequential(shared, nn.ReLU(), shared))) == ["0"]
    model = nn.Sequential(Bottleneck(4))
    model.add_module("again", model[0].downsample[0])
    assert names(blocks(model)) == ["0"]
    headed = nn.Module()
    headed.head = nn.TransformerEncoderLayer(8, 2, 16)
    headed.layers = nn.ModuleList([headed.head])
    assert names(blocks(headed)) == ["head"]


def test_a_list_of_parametrizations_is_no_list_of_layers() -> None:
    model = nn.Module()
    model.linear = nn.Linear(3, 3)
    nn.utils.parametrize.register_parametrization(model.linear, "weight", Scaled())
    assert blocks(model) == []


def test_true_means_the_blocks_and_false_none() -> None:
    model = Residual()
    assert matching(model, True, "trainer.x") == blocks(model)
    assert matching(model, False, "trainer.x") == []
    solo = nn.Module()
    solo.body = nn.Linear(2, 2)
    with pytest.raises(UserError, match=r"trainer\.x=true: .*instead, as in trainer\.x=body"):
        matching(solo, True, "trainer.x")


def test_patterns_choose_the_outermost_modules_that_they_fit() -> None:
    model = Residual()
    assert names(matching(model, "layer*", "x")) == ["layer1", "layer2"]
    assert names(matching(model, "fc layer1.*", "x")) == ["layer1.0", "layer1.1", "fc"]
    assert names(matching(model, ["layer2.0", "layer2.0.conv"], "x")) == ["layer2.0", "layer2.0.conv"]
    assert names(matching(model, "*.downsample.?", "x")) == [
        f"layer{n}.downsample.{k}" for n in ("1.0", "1.1", "2.0") for k in (0, 1)
    ]
    listed = nn.Module()
    listed.layers = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    listed.last = listed.layers[1]
    assert names(matching(listed, "*", "x")) == ["layers.0", "layers.1"]  # a list has no forward; one module, once
    assert names(matching(listed, "last", "x")) == ["last"]


def test_a_pattern_that_fits_nothing_names_the_nearest_module() -> None:
    with pytest.raises(UserError, match=r"trainer\.x='layer3' fits none .* did you mean 'layer[12]'\?"):
        matching(Residual(), "fc layer3", "trainer.x")
    with pytest.raises(UserError, match="fits none"):
        matching(Residual(), "", "trainer.x")
    listed = nn.Module()
    listed.layers = nn.ModuleList([nn.Linear(2, 2)])
    with pytest.raises(UserError, match=r"did you mean 'layers\.0'"):
        matching(listed, "layers", "trainer.x")


@pytest.mark.parametrize("where", [3, None, [1], {"a": 1}])
def test_other_values_are_refused(where: object) -> None:
    with pytest.raises(UserError, match=r"trainer\.x=.* must be true, false, or patterns"):
        matching(Residual(), where, "trainer.x")  # type: ignore[arg-type]  # what is refused
