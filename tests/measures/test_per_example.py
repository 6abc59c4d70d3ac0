import pytest
import sklearn.metrics
import torch
from torch.nn import functional

from reglab.measures import example_losses
from reglab.measures.per_example import example_statistics, losses_of, point_score, scale


def r2(outputs, targets):
    given = scale(targets, "regression")
    return float(point_score(example_statistics(outputs, targets, "regression"), given, "regression"))


def test_cross_entropy_and_decision_are_the_library_s_also_of_large_and_tied_outputs():
    outputs = 50 * torch.randn(30, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    outputs[::3] = 1.5  # all classes tie: the first is decided
    targets = torch.arange(30) % 4
    losses, right = example_statistics(outputs, targets, "classification")
    torch.testing.assert_close(losses, functional.cross_entropy(outputs, targets, reduction="none"))
    assert torch.equal(right.bool(), outputs.argmax(1) == targets)


@pytest.mark.parametrize("columns", [None, 1, 3])
def test_r2_is_scikit_learn_s_whatever_the_scale_of_the_targets(columns):
    generator = torch.Generator().manual_seed(1)
    shape = (30,) if columns is None else (30, columns)
    targets = 1e-5 * torch.randn(shape, generator=generator, dtype=torch.float64) + 7
    outputs = targets + 5e-6 * torch.randn(shape, generator=generator, dtype=torch.float64)
    assert r2(outputs, targets) == pytest.approx(sklearn.metrics.r2_score(targets.numpy(), outputs.numpy()), rel=1e-8)
    losses = losses_of(example_statistics(outputs, targets, "regression"), "regression")
    torch.testing.assert_close(losses, example_losses(outputs, targets, "regression"))


def test_r2_of_constant_targets_is_0_where_they_are_missed_and_1_of_a_perfect_fit():
    varied, constant = torch.arange(30.0), torch.full((30,), 2.0)
    assert r2(constant + 0.5, constant) == 0
    assert r2(constant, constant) == r2(varied, varied) == 1
