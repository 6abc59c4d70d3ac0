"""Every score against scikit-learn, and its standard error against a jackknife over
scikit-learn.
"""

import math

import numpy as np
import pytest
import scipy.special
import sklearn.metrics as metrics
import torch
from torchmetrics.functional.classification import multiclass_auroc, multilabel_f1_score

from reglab.core.metric_direction import SCORES, lower_is_better
from reglab.measures import Evaluation, example_losses, gap, one_part, side
from reglab.measures.scores import RANKED
from reglab.measures.settings import monitored
from reglab.tasks import task_named

TASKS = ("classification", "binary", "multilabel", "regression")
CASES = [(name, task) for task in TASKS for name in task_named(task).scores]
NOT_MEANS = [(name, task) for name, task in CASES if name in {"balanced_accuracy", "kappa", *RANKED}]


def case(task, rows=60, members=(), columns=None):
    """Return a model that is right more often than not, with ties among its outputs."""
    generator = torch.Generator().manual_seed(3)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    if task == "classification":
        targets = torch.randint(0, 4, (rows,), generator=generator)
        outputs = torch.nn.functional.one_hot(targets, 4) + normal(*members, rows, 4)
        outputs[..., ::5, :] = outputs[..., :1, :]
    elif task == "regression":
        targets = normal(rows, columns or 1)
        outputs = targets + 0.4 * normal(*members, rows, columns or 1)
        targets = targets if columns else targets.squeeze(1)
    else:
        hidden = normal(rows, 3 if task == "multilabel" else 1)
        targets = (hidden > 0.3).float().squeeze(-1)
        outputs = ((hidden + 0.8 * normal(*members, *hidden.shape)) * 4).round() / 4
    return Evaluation(example_losses(outputs, targets, task), outputs, targets)


def by_sklearn(name, task, outputs, targets):
    """The score of numpy arrays, by scikit-learn."""
    if task == "regression":
        outputs = outputs.reshape(targets.shape)
        return {"mae": metrics.mean_absolute_error, "r2": metrics.r2_score, "rmse": metrics.root_mean_squared_error}[
            name
        ](targets, outputs)
    if task == "classification":
        chances, predicted = scipy.special.softmax(outputs, -1), outputs.argmax(-1)
        if name in ("auroc", "average_precision", "brier"):
            wanted = np.eye(outputs.shape[-1])[targets]
            if name == "brier":
                return ((chances - wanted) ** 2).sum(-1).mean()
            function = metrics.roc_auc_score if name == "auroc" else metrics.average_precision_score
            return np.mean([function(wanted[:, k], chances[:, k]) for k in np.unique(targets)])
        if name == "log_loss":
            return metrics.log_loss(targets, chances, labels=range(outputs.shape[-1]))
        if name == "f1":
            return metrics.f1_score(targets, predicted, average="macro")
        if name == "kappa":
            return metrics.cohen_kappa_score(targets, predicted)
        return {"accuracy": metrics.accuracy_score, "balanced_accuracy": metrics.balanced_accuracy_score}[name](
            targets, predicted
        )
    if task == "multilabel":
        return np.mean([by_sklearn(name, "binary", outputs[:, k : k + 1], targets[:, k]) for k in range(3)])
    chances, predicted = scipy.special.expit(outputs[:, 0]), outputs[:, 0] > 0
    if name in ("accuracy", "balanced_accuracy", "f1"):
        return getattr(metrics, f"{name}_score")(targets, predicted)
    if name == "log_loss":
        return metrics.log_loss(targets, chances)
    if name == "kappa":
        return metrics.cohen_kappa_score(targets, predicted)
    function = {"auroc": metrics.roc_auc_score, "average_precision": metrics.average_precision_score}
    return function.get(name, metrics.brier_score_loss)(targets, chances)


def measured(observed, task, name, **options):
    return one_part("val", side(observed, task, **options), task, scores=[name])


@pytest.mark.parametrize("name, task", CASES)
def test_equals_sklearn(name, task):
    observed = case(task)
    expected = by_sklearn(name, task, observed.outputs.numpy(), observed.targets.numpy())
    assert measured(observed, task, name)[f"val/{name}"].item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name, task", CASES)
def test_members_are_scored_each_by_itself(name, task):
    observed = case(task, members=(3,))
    together = measured(observed, task, name)
    for member in range(3):
        solo = measured(Evaluation(observed.losses[member], observed.outputs[member], observed.targets), task, name)
        for key, value in solo.items():
            torch.testing.assert_close(together[key][member], value, atol=1e-9, rtol=0, equal_nan=True)


@pytest.mark.parametrize("name, task", NOT_MEANS)
def test_the_standard_error_is_near_that_of_a_jackknife(name, task):
    observed = case(task, rows=150)
    outputs, targets = observed.outputs.numpy(), observed.targets.numpy()
    without = [by_sklearn(name, task, np.delete(outputs, i, 0), np.delete(targets, i, 0)) for i in range(150)]
    jackknife = math.sqrt(149 * np.var(without))
    assert measured(observed, task, name)[f"val/{name}_se"].item() == pytest.approx(jackknife, rel=0.05)


@pytest.mark.parametrize("name, task", CASES)
def test_an_interval_lies_around_its_score_and_the_gap_counts_what_is_worse(name, task):
    observed = case(task)
    actual = measured(observed, task, name)
    assert actual[f"val/{name}_low"] < actual[f"val/{name}"] < actual[f"val/{name}_high"]
    worse = Evaluation(example_losses(-observed.outputs, observed.targets, task), -observed.outputs, observed.targets)
    apart = gap(side(observed, task, 0.5), side(worse, task), task, scores=[name])
    assert apart[f"gap/{name}_low"] < apart[f"gap/{name}"] < apart[f"gap/{name}_high"]
    assert apart[f"gap/{name}"] > 0


@pytest.mark.parametrize("name", [name for name, _ in NOT_MEANS])
def test_a_perfect_score_keeps_a_width(name):
    targets = torch.arange(40) % 3
    outputs = 9.0 * torch.nn.functional.one_hot(targets, 3).double()
    actual = measured(
        Evaluation(example_losses(outputs, targets, "classification"), outputs, targets), "classification", name
    )
    assert actual[f"val/{name}"] == actual[f"val/{name}_high"] == 1
    assert 0.7 < actual[f"val/{name}_low"] < 0.95


def test_scores_of_absent_classes_do_not_count():
    """torchmetrics counts a class without a positive as an AUROC of 0."""
    observed = case("classification")
    wider = torch.cat([observed.outputs, torch.full((60, 1), -20.0, dtype=torch.float64)], -1)
    for name in ("balanced_accuracy", *RANKED):
        solo = measured(observed, "classification", name)[f"val/{name}"]
        actual = measured(Evaluation(observed.losses, wider, observed.targets), "classification", name)[f"val/{name}"]
        torch.testing.assert_close(actual, solo, atol=1e-8, rtol=0)


def test_agrees_with_torchmetrics():
    observed = case("classification")
    ours = measured(observed, "classification", "auroc")["val/auroc"].item()
    assert ours == pytest.approx(multiclass_auroc(observed.outputs, observed.targets, 4).item(), abs=1e-6)
    observed = case("multilabel")
    ours = measured(observed, "multilabel", "f1")["val/f1"].item()
    assert ours == pytest.approx(
        multilabel_f1_score(observed.outputs.sigmoid(), observed.targets.long(), 3).item(), abs=1e-6
    )


@pytest.mark.parametrize("columns", [None, 3])
def test_errors_of_a_regression_are_in_the_units_of_the_target(columns):
    observed = case("regression", columns=columns)
    units = torch.tensor([5.0, 0.1, 70.0], dtype=torch.float64)[: columns or 1]
    outputs, targets = (part.reshape(60, -1) * units for part in (observed.outputs, observed.targets))
    actual = measured(observed, "regression", "mae", units=units)
    for name in ("rmse", "mae"):
        expected = by_sklearn(name, "regression", outputs.numpy(), targets.numpy())
        assert actual[f"val/{name}"].item() == pytest.approx(expected, rel=1e-9)
    squares = one_part("val", side(observed, "regression"), "regression")
    if columns is None:
        assert actual["val/rmse_high"].item() == pytest.approx(5 * math.sqrt(squares["val/loss_high"]), rel=1e-9)


@pytest.mark.parametrize("task", ["classification", "binary", "multilabel", "regression"])
def test_weighted_rows_count_as_rows_repeated(task):
    observed = case(task)
    counts = torch.arange(60) % 3
    repeated = [part.repeat_interleave(counts, 0) for part in observed]
    actual = measured(observed, task, "brier" if task != "regression" else "mae", weights=counts * 0.7)
    plain = one_part("val", side(Evaluation(*repeated), task), task)
    names = ("loss",) if task == "regression" else ("loss", "accuracy")
    for name in names:
        assert actual[f"val/weighted_{name}"].item() == pytest.approx(plain[f"val/{name}"].item(), rel=1e-12)
        assert actual[f"val/weighted_{name}_low"] < actual[f"val/weighted_{name}"] < actual[f"val/weighted_{name}_high"]
    # Repeating rows tells nothing new: weights keep the rows' own number.
    assert actual["val/weighted_loss_se"] > plain["val/loss_se"]


def test_weights_of_one_change_nothing():
    observed = case("classification")
    actual = measured(observed, "classification", "f1", weights=torch.full((60,), 0.3))
    for name in ("loss", "accuracy"):
        for end in ("", "_se", "_low", "_high"):
            torch.testing.assert_close(actual[f"val/weighted_{name}{end}"], actual[f"val/{name}{end}"])


def test_weighted_accuracy_of_right_rows_is_exactly_1_in_float32():
    targets = torch.ones(37)
    outputs = torch.full((37, 1), 5.0)
    observed = Evaluation(example_losses(outputs, targets, "binary"), outputs, targets)
    actual = measured(observed, "binary", "f1", weights=0.1 + torch.arange(37) / 7)
    assert actual["val/weighted_accuracy"] == actual["val/weighted_accuracy_high"] == 1
    assert actual["val/weighted_loss_low"].isnan()


def test_every_score_has_a_direction():
    lower = {name for name in SCORES if lower_is_better(f"val/{name}")}
    assert lower == {"log_loss", "brier", "mae", "rmse", "perplexity"}
    assert lower_is_better("gap/weighted_loss")
    assert not lower_is_better("val/weighted_accuracy")
    assert monitored("regression", weighted=True) == ["val/loss", "val/r2", "val/rmse", "val/mae", "val/weighted_loss"]


def test_logits_between_0_and_1_are_not_taken_for_probabilities():
    outputs, targets = torch.tensor([[0.1], [0.2], [0.3]]), torch.tensor([1.0, 1.0, 0.0])
    observed = Evaluation(example_losses(outputs, targets, "binary"), outputs, targets)
    assert measured(observed, "binary", "f1")["val/accuracy"].item() == pytest.approx(2 / 3)
