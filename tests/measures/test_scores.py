import pytest
import sklearn.metrics
import torch
from torchmetrics.functional import r2_score
from torchmetrics.functional.classification import binary_accuracy, multiclass_accuracy, multilabel_accuracy

from reglab.measures import Evaluation, example_losses, score_name, scores
from reglab.measures.facts import facts_of, point_score, scale

TASKS = ["classification", "binary", "multilabel", "regression", "regression-columns"]


def case(name, rows=60, members=()):
    """Return outputs (half right, more or less), targets and the task."""
    generator = torch.Generator().manual_seed(3)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    if name == "classification":
        return normal(*members, rows, 4), torch.randint(0, 4, (rows,), generator=generator), name
    if name == "binary":
        return normal(*members, rows, 1), (normal(rows) > 0).float(), name
    if name == "multilabel":
        return normal(*members, rows, 5), (normal(rows, 5) > 0).float(), name
    columns = 1 if name == "regression" else 3
    targets = normal(rows, columns)
    outputs = targets + 0.4 * normal(*members, rows, columns)
    return outputs, targets.squeeze(1) if columns == 1 else targets, "regression"


def by_sklearn(outputs, targets, task):
    if task == "regression":
        return sklearn.metrics.r2_score(targets.numpy(), outputs.reshape(targets.shape).numpy())
    if task == "classification":
        return sklearn.metrics.accuracy_score(targets.numpy(), outputs.argmax(1).numpy())
    right = (outputs.reshape(targets.shape) > 0).numpy() == targets.numpy().astype(bool)
    return right.mean(axis=0).mean()


@pytest.mark.parametrize("name", TASKS)
def test_equals_sklearn(name):
    outputs, targets, task = case(name)
    assert scores(outputs, targets, task)[score_name(task)].item() == pytest.approx(
        by_sklearn(outputs, targets, task), abs=1e-6
    )


@pytest.mark.parametrize("name", TASKS)
def test_equals_torchmetrics_on_probabilities(name):
    outputs, targets, task = case(name)
    expected = {
        "classification": lambda: multiclass_accuracy(outputs, targets, 4, average="micro"),
        "binary": lambda: binary_accuracy(outputs.sigmoid().squeeze(1), targets.long()),
        "multilabel": lambda: multilabel_accuracy(outputs.sigmoid(), targets.long(), 5),
        "regression": lambda: r2_score(outputs.reshape(targets.shape), targets),
    }[task]()
    measured = scores(outputs, targets, task)[score_name(task)]
    torch.testing.assert_close(measured, expected, atol=1e-6, rtol=0, check_dtype=False)


@pytest.mark.parametrize("name", TASKS)
def test_members_are_scored_each_by_itself(name):
    outputs, targets, task = case(name, members=(2, 3))
    together = scores(outputs, targets, task)[score_name(task)]
    assert together.shape == (2, 3)
    for first in range(2):
        for second in range(3):
            alone = by_sklearn(outputs[first, second], targets, task)
            assert together[first, second].item() == pytest.approx(alone, abs=1e-6)


@pytest.mark.parametrize("name", TASKS)
def test_terms_determine_the_score(name):
    outputs, targets, task = case(name, members=(2,))
    facts = facts_of(Evaluation(example_losses(outputs, targets, task), outputs, targets), task)
    given = scale(targets, task)
    given = given._replace(variance=given.variance.unsqueeze(-1), constant=given.constant.unsqueeze(-1))
    torch.testing.assert_close(
        point_score(facts, given, task),
        scores(outputs, targets, task)[score_name(task)],
        atol=1e-6,
        rtol=0,
        check_dtype=False,
    )


def test_logits_between_0_and_1_are_not_taken_for_probabilities():
    outputs, targets = torch.tensor([[0.1], [0.2], [0.3]]), torch.tensor([1.0, 1.0, 0.0])
    assert scores(outputs, targets, "binary")["accuracy"].item() == pytest.approx(2 / 3)


@pytest.mark.parametrize("scale, shift", [(1e-5, 0.0), (1e5, 0.0), (1.0, 1e4)])
def test_r2_does_not_depend_on_scale_or_origin_of_the_targets(scale, shift):
    outputs, targets, _ = case("regression")
    expected = sklearn.metrics.r2_score(targets.numpy(), outputs.squeeze(1).numpy())
    moved = scores(outputs * scale + shift, targets * scale + shift, "regression")["r2"].item()
    assert moved == pytest.approx(expected, abs=1e-6)


def test_constant_targets_that_are_missed_score_0():
    outputs, targets = torch.tensor([[1.0], [2.0], [3.0]]), torch.ones(3)
    assert scores(outputs, targets, "regression")["r2"].item() == 0
