"""Terms by row: their mean is the metric, their spread that of the metric over samples;
scikit-learn computes both.
"""

import numpy as np
import pytest
import torch
from sklearn import metrics

from reglab.measures import Evaluation, example_losses, side
from reglab.measures.contributions import row_terms

ROWS = 240


def softmax(values):
    values = np.exp(values - values.max(-1, keepdims=True))
    return values / values.sum(-1, keepdims=True)


def one_against_rest(score):
    return lambda predicted, wanted: np.mean([score(wanted == k, predicted[:, k]) for k in range(3)])


def log_probabilities(predicted):
    return np.log(softmax(predicted))


CLASSES = {
    "accuracy": lambda predicted, wanted: metrics.accuracy_score(wanted, predicted.argmax(1)),
    "balanced_accuracy": lambda predicted, wanted: metrics.balanced_accuracy_score(wanted, predicted.argmax(1)),
    "kappa": lambda predicted, wanted: metrics.cohen_kappa_score(wanted, predicted.argmax(1)),
    "f1": lambda predicted, wanted: metrics.f1_score(wanted, predicted.argmax(1), average="macro"),
    "auroc": lambda predicted, wanted: one_against_rest(metrics.roc_auc_score)(log_probabilities(predicted), wanted),
    "average_precision": lambda predicted, wanted: one_against_rest(metrics.average_precision_score)(
        log_probabilities(predicted), wanted
    ),
    "log_loss": lambda predicted, wanted: metrics.log_loss(wanted, softmax(predicted)),
    "brier": lambda predicted, wanted: np.square(softmax(predicted) - np.eye(3)[wanted]).sum(1).mean(),
}
UNITS = np.array([2.0, 0.5])
COLUMNS = {
    "r2": metrics.r2_score,
    "rmse": lambda predicted, wanted: (UNITS * np.sqrt(np.square(predicted - wanted).mean(0))).mean(),
    "mae": lambda predicted, wanted: (UNITS * np.abs(predicted - wanted).mean(0)).mean(),
}


def case(name):
    """Return task, outputs, targets and the metric as a function of them."""
    draw = np.random.default_rng(3)
    if name in CLASSES:
        wanted = draw.choice(3, ROWS, p=[0.5, 0.3, 0.2])
        return "classification", 1.5 * np.eye(3)[wanted] + draw.normal(size=(ROWS, 3)), wanted, CLASSES[name]
    wanted = draw.normal(size=(ROWS, 2))
    return (
        "regression",
        wanted + 0.6 * draw.normal(size=(ROWS, 2)),
        wanted,
        lambda s, w: COLUMNS[name](*((w, s) if name == "r2" else (s, w))),
    )


def terms(name, task, predicted, wanted, weights=None):
    outputs, targets = torch.tensor(predicted), torch.tensor(wanted)
    observed = Evaluation(example_losses(outputs, targets, task), outputs, targets)
    units = torch.tensor(UNITS) if task == "regression" else None
    return row_terms(name, side(observed, task, 1.0, weights, units), task).numpy()


@pytest.mark.parametrize("name", [*CLASSES, *COLUMNS])
def test_their_mean_is_the_metric_and_their_spread_that_over_samples(name):
    task, predicted, wanted, metric = case(name)
    actual = terms(name, task, predicted, wanted)
    assert actual.shape == (ROWS,)
    assert actual.mean() == pytest.approx(metric(predicted, wanted), rel=1e-5)
    every = np.arange(ROWS)
    without = np.array([metric(predicted[every != row], wanted[every != row]) for row in range(ROWS)])
    pseudo = ROWS * metric(predicted, wanted) - (ROWS - 1) * without  # the jackknife's pseudo-values
    assert np.corrcoef(actual, pseudo)[0, 1] > 0.99
    assert actual.std() == pytest.approx(pseudo.std(), rel=0.05)


def test_of_a_weighted_metric_they_follow_the_weights():
    task, predicted, wanted, _ = case("accuracy")
    weights = np.random.default_rng(0).uniform(0.5, 3.0, ROWS)
    actual = terms("weighted_accuracy", task, predicted, wanted, torch.tensor(weights))
    assert actual.mean() == pytest.approx(metrics.accuracy_score(wanted, predicted.argmax(1), sample_weight=weights))
    loss = terms("weighted_loss", task, predicted, wanted, torch.tensor(weights))
    assert loss.mean() == pytest.approx(metrics.log_loss(wanted, softmax(predicted), sample_weight=weights))


def test_members_are_told_apart():
    task, predicted, wanted, _ = case("f1")
    both = terms("f1", task, np.stack([predicted, predicted[:, ::-1].copy()]), wanted)
    np.testing.assert_allclose(both[0], terms("f1", task, predicted, wanted))
    assert both.shape == (2, ROWS)
