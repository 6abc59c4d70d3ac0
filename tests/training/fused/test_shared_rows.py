"""The joint training rows of a pack, against each member's own part."""

from dataclasses import replace

import fused_harness as fused
import laws_harness as harness
import pytest
import torch

from reglab.data import Part
from reglab.training.fused.shared_rows import shared_rows

PLAIN = harness.blobs().train
NOISY = fused.relabelled(3).train
HEAVY = replace(PLAIN, weights=torch.linspace(0, 2, harness.ROWS))
SCALED = replace(PLAIN, inputs=2 * PLAIN.inputs)
OTHER = harness.blobs().val


@pytest.mark.parametrize(
    "parts, inputs",
    [([PLAIN, PLAIN], 1), ([PLAIN, NOISY], 1), ([PLAIN, HEAVY], 1), ([PLAIN, SCALED], 2), ([PLAIN, OTHER], 2)],
    ids=["same", "noisy", "weights", "scaled otherwise", "other examples"],
)
def test_a_member_finds_its_own_rows_and_no_example_is_stored_twice(parts: list[Part], inputs: int) -> None:
    made = shared_rows(parts, ["a" if part is PLAIN else "b" for part in parts]).to(torch.device("cpu"), torch.float64)
    assert len(made.inputs) == inputs * harness.ROWS
    assert made.shared == (parts[0] is parts[1])
    rows = torch.tensor([[3, 40, 0], [7, 7, 43]])
    for part, number in zip(parts, made.part, strict=True):
        actual = made.batch(rows + number * made.rows)
        weights = part.weights[rows].double() if made.weights is not None else None
        assert actual[0].dtype == torch.float64
        assert torch.equal(actual[0], part.inputs[rows].double())
        assert torch.equal(actual[1], part.targets[rows])
        assert torch.equal(actual[3], part.index[rows])
        assert (actual[2] is None) == (weights is None)
        assert weights is None or torch.equal(actual[2], weights)
