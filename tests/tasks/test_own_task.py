"""A task of the user's, by the path of its class, against scikit-learn."""

import pytest
import sklearn.metrics
import torch

import reglab
from reglab.config import trust
from reglab.core.errors import UserError
from reglab.tasks import task_named

PATH = "tasks.tasks_of_ours.Absolute"


def test_it_trains_and_is_measured():
    data = reglab.dataset("diabetes")
    inputs, targets = data.train.inputs, data.train.targets
    with trust.isolated():
        trust.trust("tasks")
        own = reglab.dataset(inputs, targets, task=PATH)
        model = torch.nn.Linear(10, own.outputs)
        fit = reglab.fit(model, own, reglab.L1(1e-4), epochs=3, lr=0.05)
    with torch.no_grad():
        outputs, wanted = model(own.val.inputs).squeeze(1), own.val.targets
    assert own.task == PATH
    assert fit.metrics["val/loss"] == pytest.approx(sklearn.metrics.mean_absolute_error(wanted, outputs), rel=1e-5)
    assert fit.metrics["val/d2"] == pytest.approx(sklearn.metrics.d2_absolute_error_score(wanted, outputs), rel=1e-4)
    assert fit.metrics["gap/d2_low"] < fit.metrics["gap/d2"] < fit.metrics["gap/d2_high"]


@pytest.mark.parametrize(
    "path, message",
    [
        (PATH, "tasks is not trusted"),
        ("reglab.tasks.poisson.Poisson", "not a class that a configuration builds here"),
        ("os.system", "Python's module os"),
    ],
)
def test_one_that_is_not_trusted_is_refused(path, message):
    with trust.isolated(), pytest.raises(UserError, match=message):
        task_named(path)
