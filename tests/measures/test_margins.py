"""Margins against loops over rows."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reglab.core.errors import UserError
from reglab.measures import Margins, OfModels, measured


def rows(outputs: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(23, 4, generator=generator), torch.randint(0, max(outputs, 2), (23,), generator=generator)


def check(found: dict[str, Tensor], member: int, part: str, margins: list[float]) -> None:
    values = {"mean": np.mean(margins), "q10": np.quantile(margins, 0.1), "below": np.mean(np.array(margins) < 0)}
    for name, value in values.items():
        assert float(found[f"margins/{part}_{name}"][member]) == pytest.approx(value, rel=1e-5, abs=1e-6), name


def test_classes_by_a_loop_over_rows() -> None:
    torch.manual_seed(0)
    models, (inputs, targets) = [nn.Linear(4, 3), nn.Linear(4, 3)], rows(3)
    train, val = (inputs[:13], targets[:13]), (inputs[13:], targets[13:])
    found = measured(OfModels(models, train, val, "classification"), {"margins": Margins()})
    for member, model in enumerate(models):
        for part, (each, labels) in (("train", train), ("val", val)):
            margins = []
            for logits, label in zip(model(each).tolist(), labels.tolist(), strict=True):
                margins.append(logits[label] - max(logit for k, logit in enumerate(logits) if k != label))
            check(found, member, part, margins)
        norm = np.linalg.svd(model.weight.detach().numpy(), compute_uv=False)[0]
        quantile = float(found["margins/train_q10"][member])
        assert float(found["margins/train_normalized"][member]) == pytest.approx(quantile / norm, rel=1e-4)


def test_a_binary_task_has_the_logit_with_the_sign_of_its_class() -> None:
    torch.manual_seed(0)
    model, (inputs, targets) = nn.Linear(4, 1), rows(1)
    of = OfModels([model], (inputs, targets.float()), (inputs, targets.float()), "binary")
    found = measured(of, {"margins": Margins()})
    signed = [logit if y else -logit for (logit,), y in zip(model(inputs).tolist(), targets.tolist(), strict=True)]
    check(found, 0, "val", signed)


def test_rows_without_a_label_have_no_margin() -> None:
    torch.manual_seed(0)
    model, (inputs, targets) = nn.Linear(4, 3), rows(3)
    ignored = targets.clone()
    ignored[5:] = -100
    part, few = (inputs, ignored), (inputs[:5], targets[:5])
    found, expected = (
        measured(OfModels([model], each, each, "classification"), {"m": Margins()}) for each in (part, few)
    )
    assert {name: float(value) for name, value in found.items()} == pytest.approx(
        {name: float(value) for name, value in expected.items()}
    )


def test_scaling_layers_against_each_other_leaves_normalized_margins() -> None:
    torch.manual_seed(0)
    model, part = nn.Sequential(nn.Linear(4, 6, bias=False), nn.ReLU(), nn.Linear(6, 3, bias=False)), rows(3)
    before = measured(OfModels([model], part, part, "classification"), {"m": Margins()})
    with torch.no_grad():
        model[0].weight.mul_(8)
    after = measured(OfModels([model], part, part, "classification"), {"m": Margins()})
    assert float(after["margins/train_mean"]) == pytest.approx(8 * float(before["margins/train_mean"]), rel=1e-4)
    assert math.isclose(
        float(after["margins/train_normalized"]), float(before["margins/train_normalized"]), rel_tol=1e-4
    )


@pytest.mark.parametrize("task", ["regression", "ordinal", "multilabel"])
def test_tasks_without_a_logit_of_each_class_are_refused(task: str) -> None:
    part = rows(1)
    with pytest.raises(UserError, match=r"leave margins out of measure, or choose data\.task=classification or binary"):
        measured(OfModels([nn.Linear(4, 1)], part, part, task), {"margins": Margins()})
