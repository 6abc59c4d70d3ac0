"""Muon against torch's, and its iteration against the same polynomial of the singular values."""

import pytest
import torch
from torch import nn

from reglab.core.errors import UserError
from reglab.optimizers.muon import Muon, orthogonalized


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4)])
def test_the_iteration_is_a_polynomial_of_the_singular_values(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    values = values / values.square().sum().sqrt()
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    torch.testing.assert_close(orthogonalized(matrix), left @ torch.diag(values) @ right, rtol=1e-10, atol=1e-12)
    assert orthogonalized(torch.zeros(shape)).abs().max() == 0


def test_matrices_step_as_torchs_muon_and_the_rest_as_adamw() -> None:
    torch.manual_seed(0)
    ours, theirs = nn.Linear(6, 4), nn.Linear(6, 4)
    theirs.load_state_dict(ours.state_dict())
    mine = Muon(ours.parameters(), lr=0.01, weight_decay=0.1)
    matrix = torch.optim.Muon([theirs.weight], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    vector = torch.optim.AdamW([theirs.bias], lr=0.01, weight_decay=0.1)
    start = ours.weight.detach().clone()
    for _ in range(5):
        for name, weight in ours.named_parameters():
            weight.grad = torch.randn_like(weight)
            theirs.get_parameter(name).grad = weight.grad.clone()
        for optimizer in (mine, matrix, vector):
            optimizer.step()
    torch.testing.assert_close(ours.bias, theirs.bias, rtol=1e-6, atol=1e-7)
    moved, right = ours.weight.detach() - start, theirs.weight.detach() - start  # torch's iteration is in bfloat16
    assert (moved - right).norm() < 0.02 * right.norm()


def test_a_group_may_leave_its_matrices_to_adamw() -> None:
    ours, theirs = nn.Linear(3, 2), nn.Linear(3, 2)
    theirs.load_state_dict(ours.state_dict())
    mine = Muon([{"params": ours.parameters(), "matrices": False}], lr=0.01)
    adamw = torch.optim.AdamW(theirs.parameters(), lr=0.01, weight_decay=0)
    for _ in range(3):
        for name, weight in ours.named_parameters():
            weight.grad = torch.randn_like(weight)
            theirs.get_parameter(name).grad = weight.grad.clone()
        mine.step()
        adamw.step()
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("wrong", [{"lr": 0}, {"momentum": 1.0}, {"betas": (0.9,)}, {"weight_decay": -1}])
def test_bad_numbers_are_refused(wrong: dict) -> None:
    with pytest.raises(UserError, match="Muon needs lr > 0"):
        Muon(nn.Linear(1, 1).parameters(), **wrong)
