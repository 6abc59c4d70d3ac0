"""Noise columns: standard normal, behind the real ones, known to be irrelevant."""

import numpy as np
import pytest
import scipy.stats
import torch

from reglab.core.errors import UserError
from reglab.data import load
from reglab.data.noise_columns import noise_columns


def test_columns_are_standard_normal_and_uncorrelated():
    columns = noise_columns(rows=4000, columns=5, seed=0)
    for column in columns.T:
        assert scipy.stats.kstest(column, "norm").pvalue > 1e-3
    off_diagonal = np.corrcoef(columns.T)[np.triu_indices(5, k=1)]
    assert np.abs(off_diagonal).max() < 4 / np.sqrt(4000)


def test_more_columns_and_more_rows_leave_the_first_ones_alone():
    few, many = noise_columns(50, 2, seed=3), noise_columns(80, 6, seed=3)
    np.testing.assert_array_equal(few, many[:50, :2])


def test_they_stand_behind_the_real_inputs_and_are_marked():
    bare, noisy = load({"name": "wine"}), load({"name": "wine", "noise_columns": 4})
    assert noisy.input_shape == (17,)
    assert torch.equal(noisy.val.inputs[:, :13], bare.val.inputs)
    assert noisy.feature_names[13:] == ("noise_0", "noise_1", "noise_2", "noise_3")
    assert noisy.relevant.tolist() == [True] * 13 + [False] * 4
    assert bare.relevant is None


def test_a_synthetic_truth_is_extended():
    data = load({"name": "correlated_regression", "noise_columns": 3})
    assert data.relevant.sum() == 20
    assert data.relevant[100:].tolist() == [False] * 3
    assert data.coefficients[100:].tolist() == [0] * 3
    assert data.feature_groups[100:].tolist() == [-1] * 3


@pytest.mark.parametrize("name", ["digits", "mnist1d"])
def test_images_take_none(name):
    with pytest.raises(UserError, match=r"data\.noise_columns=2 .*data\.shape=flat"):
        load({"name": name, "shape": "image", "noise_columns": 2})
