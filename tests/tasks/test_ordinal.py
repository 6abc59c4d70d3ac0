"""Ordinal regression against a loop over conditional probabilities, and scikit-learn."""

import math

import numpy as np
import sklearn.metrics

from reglab.measures import example_losses, gap, side
from reglab.measures.evaluate import evaluation_of
from reglab.tasks import task_named
from tasks.task_cases import ROWS, case


def probabilities(logits: list[float]) -> list[float]:
    """The probability of each class, by its definition."""
    reached, found = 1.0, []
    for logit in logits:
        beyond = 1 / (1 + math.exp(-logit))
        found.append(reached * (1 - beyond))
        reached *= beyond
    return [*found, reached]


def test_loss_and_decision_follow_from_the_probabilities_of_the_classes():
    outputs, targets = case("ordinal")
    losses, decided = example_losses(outputs, targets, "ordinal"), task_named("ordinal").decide(outputs)
    for row in range(ROWS):
        chances = probabilities(outputs[row].tolist())
        assert abs(sum(chances) - 1) < 1e-12
        assert abs(float(losses[row]) + math.log(chances[int(targets[row])])) < 1e-10
        cost = [sum(chance * abs(k - own) for k, chance in enumerate(chances)) for own in range(4)]
        assert int(decided[row]) == int(np.argmin(cost))  # the best class for the absolute error


def test_scores_are_scikit_learns():
    outputs, targets = case("ordinal")
    chances = np.array([probabilities(row) for row in outputs.tolist()])
    decided, true = (chances.cumsum(1) < 0.5).sum(1), targets.numpy()
    measured = side(evaluation_of(outputs, targets, "ordinal"), "ordinal")
    found = gap(measured, measured, "ordinal", scores=task_named("ordinal").scores)
    expected = {
        "accuracy": sklearn.metrics.accuracy_score(true, decided),
        "mae": sklearn.metrics.mean_absolute_error(true, decided),
        "f1": sklearn.metrics.f1_score(true, decided, average="macro"),
        "balanced_accuracy": sklearn.metrics.balanced_accuracy_score(true, decided),
        "auroc": sklearn.metrics.roc_auc_score(true, chances, multi_class="ovr"),
        "log_loss": sklearn.metrics.log_loss(true, chances),
        "brier": ((chances - np.eye(4)[true]) ** 2).sum(1).mean(),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(float(found[f"val/{name}"]), value, rtol=1e-9, err_msg=name)
