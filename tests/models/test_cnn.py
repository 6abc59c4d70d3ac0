import pytest
import torch
from torch import nn

from reglab.core.errors import UserError
from reglab.models import CNN


@pytest.mark.parametrize("shape, kind", [((3, 8, 6), nn.Conv2d), ((1, 40), nn.Conv1d)])
def test_the_input_shape_picks_the_convolution(shape, kind):
    model = CNN([4, 5], inputs=shape, outputs=7)
    assert [type(part) for part in model.modules() if isinstance(part, (nn.Conv1d, nn.Conv2d))] == [kind, kind]
    assert model(torch.randn(2, *shape)).shape == (2, 7)


def test_blocks_after_the_first_halve_the_size_and_never_lose_it():
    model = CNN([2, 2, 2, 2, 2, 2], inputs=(1, 8, 5), outputs=1)
    sizes, activity = [], torch.randn(1, 1, 8, 5)
    for block in model.blocks:
        activity = block(activity)
        sizes.append(tuple(activity.shape[2:]))
    assert sizes == [(8, 5), (4, 3), (2, 2), (1, 1), (1, 1), (1, 1)]


def test_the_head_sees_the_mean_over_positions():
    model = CNN([1], kernel=1, activation="identity", inputs=(1, 4), outputs=1).double()
    for parameter, value in zip(model.parameters(), (2.0, 1.0, 3.0, -1.0), strict=True):
        nn.init.constant_(parameter, value)  # convolution 2x + 1, head 3m - 1
    signal = torch.tensor([[[1.0, 2.0, 3.0, 6.0]]], dtype=torch.float64)
    assert model(signal).item() == 3 * (2 * 3.0 + 1) - 1


def test_layer_norm_makes_the_outputs_independent_of_input_scale_and_batch():
    model = CNN([4], norm="layer", inputs=(1, 6, 6), outputs=3).double()
    nn.init.zeros_(model.blocks[0].convolution.bias)
    images = torch.randn(5, 1, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(model(images), model(100 * images), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(model(images)[:1], model(images[:1]))


def test_batch_norm_replaces_the_bias():
    assert CNN([4], norm="batch", inputs=(1, 6, 6), outputs=3).blocks[0].convolution.bias is None
    assert isinstance(CNN([4], norm="batch", inputs=(1, 6), outputs=3).blocks[0].norm, nn.BatchNorm1d)


@pytest.mark.parametrize("inputs", [64, (64,)])
def test_flat_inputs_are_told_how_to_become_images(inputs):
    with pytest.raises(UserError, match=r"data\.shape=image"):
        CNN(inputs=inputs, outputs=10)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"channels": [8, 0]}, "channels=.*>= 1, got 0"),
        ({"kernel": 4}, "kernel=4 must be an odd integer"),
        ({"norm": "group"}, "norm=group is unknown"),
        ({"activation": "gello"}, "did you mean 'gelu'|did you mean 'celu'"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(UserError, match=message):
        CNN(**options, inputs=(1, 8, 8), outputs=10)
