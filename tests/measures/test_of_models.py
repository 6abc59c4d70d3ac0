"""Finished models as measures see them."""

import pytest
import torch
from torch import Tensor, nn

from reglab.core.errors import UserError
from reglab.measures import Gap, Measure, Measured, OfModels, Weights, gap, measured, side
from reglab.measures.evaluate import evaluate
from reglab.tasks import Task

ROWS = 30


def rows(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(ROWS, 4, generator=generator), torch.randint(0, 3, (ROWS,), generator=generator)


def half_frozen(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))
    model(rows(7)[0])  # statistics of its own
    model[0].requires_grad_(False)
    return model


def test_each_member_has_its_own_outputs_frozen_weights_and_statistics_included() -> None:
    models = [half_frozen(seed) for seed in range(3)]
    seen = OfModels(models, rows(0), rows(1), "classification")
    assert set(seen.parameters) == {"1.weight", "1.bias", "2.weight", "2.bias"}
    outputs = seen.outputs("val")
    for number, model in enumerate(models):
        torch.testing.assert_close(outputs[number], model.eval()(rows(1)[0]))
    alone = OfModels(models[1:2], rows(0), rows(1), "classification").outputs("val")
    torch.testing.assert_close(outputs[1], alone[0])


def test_frozen_weights_are_counted_and_their_biases_are_not() -> None:
    found = measured(OfModels([half_frozen(0), half_frozen(1)], rows(0), rows(1), "classification"), {"w": Weights()})
    assert found["weights/all/frozen"].tolist() == [20, 20]


def test_the_gap_is_the_one_that_is_measured_in_training() -> None:
    model = half_frozen(0)
    found = measured(OfModels([model], rows(0), rows(1), "classification"), {"gap": Gap()})
    train, val = (side(evaluate(model, *part, "classification"), "classification") for part in (rows(0), rows(1)))
    for name, value in gap(train, val, "classification").items():
        assert float(found[name][0]) == pytest.approx(float(value), rel=1e-6), name


class Picky(Measure):
    def check(self, task: Task) -> None:
        raise UserError("give data.task=regression")

    def measure(self, of: Measured, state: dict[str, Tensor]) -> dict[str, Tensor]:
        raise AssertionError("it is not asked")


def test_one_that_does_not_fit_the_task_is_named() -> None:
    with pytest.raises(UserError, match=r"measure=picky: give data\.task=regression"):
        measured(OfModels([half_frozen(0)], rows(0), rows(1), "classification"), {"picky": Picky()})
