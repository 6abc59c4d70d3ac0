import pytest
import torch
from torch import nn

from reglab.core.errors import UserError
from reglab.models.layers import activation_class


@pytest.mark.parametrize(
    "name, expected",
    [("relu", nn.ReLU), ("LeakyReLU", nn.LeakyReLU), ("leaky_relu", nn.LeakyReLU), ("silu", nn.SiLU)],
)
def test_names_of_torch_in_any_spelling(name, expected):
    assert activation_class(name) is expected


@pytest.mark.parametrize("name", ["glu", "threshold", "multihead_attention", "rrelu", "softmax2d", None])
def test_what_is_no_plain_deterministic_activation_is_refused(name):
    with pytest.raises(UserError, match=f"activation={name} is not"):
        activation_class(name)


def test_identity_leaves_values_alone():
    values = torch.randn(3)
    assert activation_class("identity")()(values) is values
