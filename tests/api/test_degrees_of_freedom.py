"""``reglab.degrees_of_freedom`` against the hat matrix of ridge and the support of the Lasso."""

import math

import numpy as np
import pytest
import sklearn.linear_model
import torch
from torch import nn

import reglab
from reglab.core.errors import UserError

RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=(60, 6)).astype(np.float32)
TARGETS = (INPUTS @ np.array([2.0, -1.0, 0.5, 0, 0, 0]) + RANDOM.normal(size=60)).astype(np.float32)
FULL = {"epochs": 100, "batch_size": 1000, "optimizer": "sgd", "lr": 0.2}  # gradient descent, to the minimum
PROBES = 6


@pytest.fixture(scope="module")
def data() -> reglab.DataSet:
    return reglab.dataset(INPUTS, TARGETS, task="regression")


def linear() -> nn.Module:
    return nn.Linear(6, 1, bias=False)


def signs(rows: int) -> np.ndarray:
    generator = torch.Generator().manual_seed(0)
    return np.stack([torch.randint(0, 2, (rows,), generator=generator).numpy() * 2 - 1 for _ in range(PROBES)])


def test_ridge_has_the_trace_of_its_hat_matrix_and_the_lasso_its_support(data: reglab.DataSet) -> None:
    strengths, penalty = (0.1, 1.0), 0.3
    settings = [[], *map(reglab.L2, strengths), reglab.L1(penalty)]
    found = reglab.degrees_of_freedom(linear, data, settings, probes=PROBES, epsilon=0.01, **FULL)
    assert [each.setting for each in found] == ["none", "l2 0.1", "l2 1", "l1 0.3"]
    design, target = data.train.tensor.double().numpy(), data.train.targets.double().numpy()
    rows = len(design)
    # The mean squared error is not halved: its minimum is ridge's with alpha = rows * strength / 2, the Lasso's with
    # alpha = strength / 2.
    lasso = sklearn.linear_model.Lasso(alpha=penalty / 2, fit_intercept=False, tol=1e-12).fit(design, target)
    kept = design[:, lasso.coef_ != 0]
    assert 0 < kept.shape[1] < 6
    hats = [design @ np.linalg.solve(design.T @ design + rows * s / 2 * np.eye(6), design.T) for s in (0.0, *strengths)]
    hats.append(kept @ np.linalg.solve(kept.T @ kept, kept.T))
    for each, hat in zip(found, hats, strict=True):
        probed = [b @ hat @ b for b in signs(rows)]
        assert each.value == pytest.approx(np.mean(probed), abs=0.01), each
        assert each.error == pytest.approx(np.std(probed, ddof=1) / math.sqrt(PROBES), abs=0.01), each
        assert each.value == pytest.approx(np.trace(hat), abs=4 * each.error), each
        assert each.probes == PROBES
    assert str(found[1]).startswith("l2 0.1: ")


def test_a_setting_that_diverges_has_none(data: reglab.DataSet) -> None:
    steep = {**FULL, "epochs": 30, "lr": 0.05}
    found = reglab.degrees_of_freedom(linear, data, {"mild": [], "steep": reglab.L2(1e6)}, probes=2, **steep)
    assert [(each.setting, math.isnan(each.value)) for each in found] == [("mild", False), ("steep", True)]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"probes": 1}, "at least 2 probes"),
        ({"epsilon": 0}, "epsilon=0 must be a number > 0"),
        ({"regularizers": [reglab.EarlyStopping()]}, "leave it out, and set epochs instead"),
        ({"data": reglab.dataset(INPUTS, TARGETS > 0)}, "by squared error"),
        ({"model": 3}, "takes a torch.nn.Module"),
    ],
)
def test_wrong_use_is_told_at_once(data: reglab.DataSet, wrong: dict, told: str) -> None:
    given = {"model": linear, "data": data, "regularizers": [[]], **wrong}
    with pytest.raises(UserError, match=told):
        reglab.degrees_of_freedom(given.pop("model"), given.pop("data"), given.pop("regularizers"), **given)
