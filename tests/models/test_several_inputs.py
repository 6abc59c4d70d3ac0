"""Several inputs of a network: given apart, in their order, alone and under vmap."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reglab.core.errors import UserError
from reglab.models.several_inputs import split_inputs

SHAPES, NAMES = ((1, 4, 4), (3,)), ("image", "meta")
ROWS = torch.randn(5, 19, generator=torch.Generator().manual_seed(0))


class Both(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.image, self.meta = nn.Conv2d(1, 2, 4), nn.Linear(3, 2)

    def forward(self, image: Tensor, meta: Tensor) -> Tensor:
        outputs: Tensor = self.image(image).flatten(1) + self.meta(meta)
        return outputs


class Optional(Both):
    def forward(self, image: Tensor, meta: Tensor | None = None, scale: float = 1.0) -> Tensor:
        assert meta is not None
        return super().forward(image, meta) * scale


class Listed(Both):
    def forward(self, *inputs: Tensor) -> Tensor:
        return super().forward(*inputs)


class Three(Both):
    def forward(self, image: Tensor, meta: Tensor, more: Tensor) -> Tensor:  # type: ignore[override]  # as users do
        return super().forward(image, meta)


@pytest.mark.parametrize("kind", [Both, Optional, Listed])
def test_a_network_gets_its_inputs_in_their_order(kind: Any) -> None:
    model = kind()
    expected = model(ROWS[:, :16].reshape(5, 1, 4, 4), ROWS[:, 16:])
    names = set(model.state_dict())
    split_inputs(model, SHAPES, NAMES)
    split_inputs(model, SHAPES, NAMES)  # as for a second training
    for same in (model, copy.deepcopy(model)):
        assert torch.equal(same(ROWS), expected)
        assert torch.equal(same(ROWS[:, :16].reshape(5, 1, 4, 4), ROWS[:, 16:]), expected)
    assert set(model.state_dict()) == names


def test_members_of_a_pack_get_them_too() -> None:
    model = Both()
    split_inputs(model, SHAPES, NAMES)
    stacked = {name: torch.stack([value, 2 * value]) for name, value in model.state_dict().items()}
    outputs = torch.func.vmap(lambda weights: torch.func.functional_call(model, weights, (ROWS,)))(stacked)
    torch.testing.assert_close(outputs, torch.stack([model(ROWS), 2 * model(ROWS)]))


def test_a_network_of_one_input_gets_all_values_and_another_number_is_refused() -> None:
    model = nn.Linear(19, 2)
    split_inputs(model, SHAPES, NAMES)
    assert model(ROWS).shape == (5, 2)
    with pytest.raises(UserError, match=r"Three takes 3 inputs \(image, meta, more\), and data\.inputs gives 2"):
        split_inputs(Three(), SHAPES, NAMES)
