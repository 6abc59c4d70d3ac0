"""The pinball loss and its D² against scikit-learn."""

import numpy as np
import pytest
import sklearn.metrics
import torch

from reglab.core.errors import UserError
from reglab.measures import example_losses, gap, side
from reglab.measures.evaluate import evaluation_of
from reglab.tasks import task_named
from tasks.task_cases import case

LEVELS = (0.1, 0.5, 0.9)


def test_loss_and_score_are_scikit_learns_mean_over_the_levels():
    outputs, targets = case("quantile")
    losses = example_losses(outputs, targets, "quantile")
    columns = [(targets.numpy(), outputs[:, k].numpy(), level) for k, level in enumerate(LEVELS)]
    pinball = [sklearn.metrics.mean_pinball_loss(true, given, alpha=level) for true, given, level in columns]
    np.testing.assert_allclose(float(losses.mean()), np.mean(pinball), rtol=1e-12)
    measured = side(evaluation_of(outputs, targets, "quantile"), "quantile")
    score = [sklearn.metrics.d2_pinball_score(true, given, alpha=level) for true, given, level in columns]
    np.testing.assert_allclose(float(gap(measured, measured, "quantile")["val/d2"]), np.mean(score), rtol=1e-12)


def test_levels_are_part_of_the_name():
    task = task_named("quantile(0.05, 0.5)")
    assert task.name == "quantile(0.05,0.5)"
    assert task.outputs(1, 1) == 2
    assert task_named(task.name) is task_named("quantile(0.05,0.5)")
    outputs, targets = torch.tensor([[1.0, 2.0]]), torch.tensor([2.0])
    torch.testing.assert_close(task.losses(outputs, targets), torch.tensor([0.025]))  # 0.05 * 1 / 2


@pytest.mark.parametrize("name", ["quantile(0)", "quantile(0.5,0.1)", "quantile(a)", "quantile(0.1", "poisson(3)"])
def test_levels_that_are_none_are_refused(name):
    with pytest.raises(UserError, match=r"quantile|poisson"):
        task_named(name)
