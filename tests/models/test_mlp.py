import pytest
import torch
from torch import nn

from reglab.core.errors import UserError
from reglab.models import MLP


def shapes(model: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(weight.shape) for weight in model.parameters() if weight.dim() == 2]


@pytest.mark.parametrize(
    "width, depth, expected",
    [
        (8, 0, [(3, 12)]),
        (8, 1, [(8, 12), (3, 8)]),
        (8, None, [(8, 12), (8, 8), (3, 8)]),
        ([16, 4], None, [(16, 12), (4, 16), (3, 4)]),
        ([16, 4], 2, [(16, 12), (4, 16), (3, 4)]),
        ([], None, [(3, 12)]),
    ],
)
def test_widths_and_depth_set_the_layers(width, depth, expected):
    assert shapes(MLP(width, depth, inputs=(3, 4), outputs=3)) == expected


def test_equals_the_formula_written_out():
    model = MLP(5, 1, "tanh", "layer", inputs=4, outputs=2).double()
    rows = torch.randn(7, 4, dtype=torch.float64)
    state = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    hidden = rows.numpy() @ state["hidden.0.linear.weight"].T + state["hidden.0.linear.bias"]
    hidden = hidden - hidden.mean(1, keepdims=True)
    hidden = hidden / (hidden.var(axis=1, keepdims=True) + 1e-5) ** 0.5
    expected = torch.tensor(hidden).tanh().numpy() @ state["head.weight"].T + state["head.bias"]
    torch.testing.assert_close(model(rows), torch.tensor(expected), atol=1e-12, rtol=0)


def test_a_linear_map_before_batch_norm_has_no_bias():
    assert "hidden.0.linear.bias" not in MLP(5, 1, norm="batch", inputs=4, outputs=2).state_dict()
    assert "hidden.0.linear.bias" in MLP(5, 1, inputs=4, outputs=2).state_dict()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"width": 0}, "width=0 must be made of integers >= 1"),
        ({"width": [8, 2.5]}, "got 2.5"),
        ({"width": True}, "got True"),
        ({"depth": -1}, "depth=-1 must be an integer from 0 to 10,000"),
        ({"depth": 1.5}, "depth=1.5 must be an integer"),
        ({"width": [8, 8, 8], "depth": 2}, "model.depth=null"),
        ({"activation": "rellu"}, "did you mean 'relu'"),
        ({"norm": "bach"}, "norm=bach is unknown; valid: null, batch, layer"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(UserError, match=message):
        MLP(**options, inputs=4, outputs=2)
