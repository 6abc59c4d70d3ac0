"""Poisson's deviance and D² against scikit-learn; the fit against its Poisson regressor."""

import numpy as np
import sklearn.linear_model
import sklearn.metrics
import torch

import reglab
from reglab.measures import example_losses, gap, side
from reglab.measures.evaluate import evaluation_of
from tasks.task_cases import case


def test_the_deviance_is_scikit_learns():
    outputs, targets = case("poisson")
    for column in range(2):
        losses = example_losses(outputs[:, column], targets[:, column], "poisson")
        expected = sklearn.metrics.mean_poisson_deviance(targets[:, column], outputs[:, column].exp())
        np.testing.assert_allclose(float(losses.mean()), expected, rtol=1e-12)


def test_d2_is_scikit_learns_of_one_column_and_of_several_their_mean():
    outputs, targets = case("poisson")
    measured = side(evaluation_of(outputs, targets, "poisson"), "poisson")
    value = float(gap(measured, measured, "poisson")["val/d2"])
    expected = [
        sklearn.metrics.d2_tweedie_score(targets[:, column], outputs[:, column].exp(), power=1) for column in (0, 1)
    ]
    np.testing.assert_allclose(value, np.mean(expected), rtol=1e-10)


def test_the_interval_of_d2_is_near_that_of_a_jackknife_over_scikit_learn():
    outputs, targets = (each[:, 0] for each in case("poisson", rows=200))
    measured = side(evaluation_of(outputs, targets, "poisson"), "poisson")
    error = float(gap(measured, measured, "poisson")["val/d2_se"])
    kept = [np.delete(np.arange(200), row) for row in range(200)]
    scores = [sklearn.metrics.d2_tweedie_score(targets[rows], outputs[rows].exp(), power=1) for rows in kept]
    jackknife = np.sqrt(199 / 200 * np.sum((np.array(scores) - np.mean(scores)) ** 2))
    np.testing.assert_allclose(error, jackknife, rtol=0.02)


def test_a_linear_model_lands_on_the_poisson_regressor():
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(400, 3))
    counts = generator.poisson(np.exp(inputs @ [0.5, -0.3, 0.0] + 0.7))
    data = reglab.dataset(inputs, counts, task="poisson")
    model = torch.nn.Linear(3, data.outputs)
    trainer = {"precision": "64-true", "accelerator": "cpu"}
    fit = reglab.fit(
        model, data, epochs=120, batch_size=len(data.train), optimizer="adam", lr=0.05,
        trainer=trainer,
    )  # fmt: skip
    oracle = sklearn.linear_model.PoissonRegressor(alpha=0, tol=1e-10, max_iter=1000)
    oracle.fit(data.train.inputs.double().numpy(), data.train.targets.double().numpy())
    np.testing.assert_allclose(model.weight.detach().numpy()[0], oracle.coef_, atol=2e-3)
    score = oracle.score(data.val.inputs.double().numpy(), data.val.targets.double().numpy())  # its D²
    assert abs(fit.metrics["val/d2"] - score) < 5e-3


def test_counts_that_are_all_alike_have_no_d2_to_explain_and_no_interval():
    for count in (0.0, 3.0):
        targets = torch.full((30,), count)
        measured = side(evaluation_of(torch.zeros(30, 1), targets, "poisson"), "poisson")
        found = gap(measured, measured, "poisson")
        assert torch.isfinite(found["val/loss"])
        assert torch.isfinite(found["val/d2"])
        assert torch.isnan(found["gap/d2_low"])
