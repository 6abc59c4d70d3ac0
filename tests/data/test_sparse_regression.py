"""The known coefficients are those that made the targets."""

import numpy as np
import pytest
import torch

from reglab.core.errors import UserError
from reglab.data import load


@pytest.mark.parametrize("standardize", [True, False])
def test_least_squares_without_noise_finds_the_coefficients_on_the_scale_of_the_inputs(standardize):
    data = load({"name": "sparse_regression", "noise": 0, "features": 30, "standardize": standardize})
    design = np.column_stack([data.train.inputs.numpy().astype(float), np.ones(len(data.train))])
    found = np.linalg.lstsq(design, data.train.targets.numpy().astype(float))[0]
    np.testing.assert_allclose(found[:-1], data.coefficients.numpy(), atol=1e-6)


def test_the_relevant_features_are_the_nonzero_coefficients():
    data = load({"name": "sparse_regression"})
    assert data.relevant.sum() == 10
    assert torch.equal(data.relevant, data.coefficients != 0)
    nonzero = data.coefficients[data.relevant].abs()
    assert nonzero.max() < 2.5 * nonzero.min()


def test_signal_has_variance_one_and_noise_the_given_deviation():
    data = load({"name": "sparse_regression", "rows": 4000, "features": 20, "noise": 0.5, "standardize": False})
    train = data.train
    signal = train.inputs @ data.coefficients
    assert signal.var().item() == pytest.approx(1, abs=0.1)
    assert (train.targets - signal).std().item() == pytest.approx(0.5, abs=0.03)


def test_seeds_differ_and_impossible_sizes_are_refused():
    first, second = (load({"name": "sparse_regression", "seed": seed}) for seed in (0, 1))
    assert not torch.equal(first.relevant, second.relevant)
    with pytest.raises(UserError, match=r"data\.informative=30 is more than data\.features=20"):
        load({"name": "sparse_regression", "informative": 30, "features": 20})
    with pytest.raises(UserError, match=r"data\.noise must be a finite number >= 0, got -1"):
        load({"name": "sparse_regression", "noise": -1})
