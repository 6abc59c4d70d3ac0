import numpy as np
import pytest
import torch
from scipy.special import expit
from scipy.stats import binomtest
from sklearn.metrics import recall_score
from torch import nn
from torch.nn import functional

from measures.deeper_cases import CLASSES, check_laws, models, rows, seen
from reglab.core.errors import UserError
from reglab.measures import ByClass
from reglab.measures.intervals import mean_interval
from reglab.measures.of_models import OfModels, measured


@pytest.fixture(scope="module", params=["classification", "binary", "ordinal"])
def numbers(request):
    return request.param, check_laws(ByClass(), request.param)


def answers(task, model, part):
    inputs, targets = rows(task, *((1,) if part == "train" else (2, 70)))
    outputs = model.eval()(inputs).detach().double()
    if task == "classification":
        losses = functional.cross_entropy(outputs, targets, reduction="none")
        return targets.numpy(), outputs.argmax(1).numpy(), losses
    if task == "binary":
        chances = expit(outputs[:, 0].numpy())
        losses = -np.log(np.where(targets.numpy() == 1, chances, 1 - chances))
        return targets.long().numpy(), (chances > 0.5).astype(int), torch.tensor(losses)
    passed = np.arange(CLASSES - 1) < targets.numpy()[:, None]
    asked = np.arange(CLASSES - 1) <= targets.numpy()[:, None]  # the threshold k is judged by rows that reach it
    chances = expit(outputs.numpy())
    losses = -(asked * np.log(np.where(passed, chances, 1 - chances))).sum(1)
    return targets.numpy(), (np.cumprod(chances, 1) > 0.5).sum(1), torch.tensor(losses)


def test_numbers_and_intervals_are_those_of_each_class_alone(numbers):
    task, found = numbers
    classes = 2 if task == "binary" else CLASSES
    assert len(found) == 12 * classes
    for member, model in enumerate(models(task)):
        sides = {part: answers(task, model, part) for part in ("train", "val")}
        for number in range(classes):
            got = {
                name.rpartition("/")[2]: value[member].item()
                for name, value in found.items()
                if name.startswith(f"by_class/{number}/")
            }
            for part, (targets, decided, losses) in sides.items():
                recall = recall_score(targets, decided, labels=[number], average=None)[0]
                assert got[f"{part}_accuracy"] == pytest.approx(recall, abs=1e-6)
                assert got[f"{part}_loss"] == pytest.approx(losses[targets == number].mean().item(), rel=1e-5)
            assert got["gap_accuracy"] == pytest.approx(got["train_accuracy"] - got["val_accuracy"], abs=1e-6)
            assert got["gap_loss"] == pytest.approx(got["val_loss"] - got["train_loss"], abs=1e-6)
            targets, decided, losses = sides["val"]
            right = decided[targets == number] == number
            if right.all():
                assert np.isnan(got["gap_loss_low"])
                continue
            # All training rows are measured: the gap's intervals are those of the validation side, moved.
            own = mean_interval(losses[targets == number], 0.95)
            assert got["gap_loss_low"] == pytest.approx(own.low.item() - got["train_loss"], rel=1e-4)
            assert got["gap_loss_high"] == pytest.approx(own.high.item() - got["train_loss"], rel=1e-4)
            if 3 <= right.sum() <= len(right) - 3:
                wilson = binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
                assert got["val_accuracy_low"] == pytest.approx(wilson.low, abs=0.01)
                assert got["val_accuracy_high"] == pytest.approx(wilson.high, abs=0.01)
                assert got["gap_accuracy_low"] == pytest.approx(
                    got["train_accuracy"] - got["val_accuracy_high"], abs=1e-6
                )


def test_a_class_without_rows_is_not_known():
    inputs, targets = rows("classification", 1)
    present = targets != 2
    of = OfModels(models("classification"), (inputs, targets), (inputs[present], targets[present]), "classification")
    found = ByClass().measure(of, {})
    assert found["by_class/2/val_accuracy"].isnan().all()
    assert found["by_class/2/gap_loss"].isnan().all()
    assert found["by_class/2/train_loss"].isfinite().all()
    assert found["by_class/1/gap_accuracy_low"].isfinite().all()


def test_more_classes_than_can_be_read_are_refused():
    data = (torch.randn(9, 5, generator=torch.Generator().manual_seed(0)), torch.arange(9))
    of = OfModels([nn.Linear(5, 51)], data, data, "classification")
    with pytest.raises(UserError, match=r"51 classes are more than 50: leave it out"):
        ByClass().measure(of, {})


def test_tasks_without_classes_are_refused():
    with pytest.raises(UserError, match=r"measure=by_class: the task multilabel has no classes"):
        measured(seen("multilabel"), {"by_class": ByClass()})
