"""Encoding against scikit-learn's transformers, and without leakage."""

import warnings

import numpy as np
import pytest
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from reglab.core.errors import UserError
from reglab.data.encode import encode
from reglab.data.source import Categorical, Source

ROWS = 60
TRAIN = np.arange(0, 40)
LABELS = ("blue", "green", "red", "violet")


def source(**changes) -> Source:
    generator = np.random.default_rng(0)
    numeric = generator.normal(5, 3, size=(ROWS, 3))
    numeric[generator.random((ROWS, 3)) < 0.2] = np.nan
    codes = generator.integers(0, 3, size=ROWS)
    codes[[3, 50]] = -1
    codes[55] = 3  # violet: never seen in training
    fields = {"numeric": numeric, "categorical": (Categorical("color", codes, LABELS),)} | changes
    names = tuple(f"x{i}" for i in range(fields["numeric"].shape[1]))
    return Source("regression", numeric_names=names, targets=np.arange(ROWS), target_names=("y",), **fields)


def test_numeric_columns_equal_imputer_and_scaler_fitted_on_the_training_rows():
    raw = source()
    imputer = SimpleImputer(strategy="median").fit(raw.numeric[TRAIN])
    scaler = StandardScaler().fit(imputer.transform(raw.numeric[TRAIN]))
    expected = scaler.transform(imputer.transform(raw.numeric))
    encoded = encode(raw, TRAIN, standardize=True)
    np.testing.assert_allclose(encoded.inputs[:, :3], expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(encoded.fitted.scale, scaler.scale_, rtol=1e-12)


def test_categories_equal_one_hot_of_the_training_rows_and_unseen_ones_are_zeros():
    raw = source()
    text = np.array([*LABELS, "missing"])[raw.categorical[0].codes][:, None]
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(text[TRAIN])
    encoded = encode(raw, TRAIN, standardize=True)
    names = [f"color={label}" for label in encoder.categories_[0]]
    columns = [encoded.names.index(name) for name in names]
    assert sorted(columns) == [3, 4, 5, 6]
    np.testing.assert_array_equal(encoded.inputs[:, columns], encoder.transform(text))
    assert not encoded.inputs[55, 3:].any()


def test_standardize_false_only_imputes():
    raw = source()
    encoded = encode(raw, TRAIN, standardize=False)
    present = ~np.isnan(raw.numeric)
    np.testing.assert_array_equal(encoded.inputs[:, :3][present], raw.numeric[present])
    assert encoded.fitted.scale.tolist() == [1, 1, 1]


def test_homogeneous_inputs_share_one_mean_and_deviation():
    numeric = np.random.default_rng(1).random((ROWS, 4)) * np.array([0.01, 1, 10, 100])
    encoded = encode(source(numeric=numeric, categorical=(), homogeneous=True), TRAIN, standardize=True)
    train = numeric[TRAIN]
    np.testing.assert_allclose(encoded.inputs, (numeric - train.mean()) / train.std(), rtol=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e9])
def test_a_constant_column_is_only_centered(value):
    numeric = np.full((ROWS, 1), value)
    numeric[-1] = value + 2
    encoded = encode(source(numeric=numeric, categorical=()), TRAIN, standardize=True)
    assert np.abs(encoded.inputs[:-1]).max() < 1e-6
    assert encoded.inputs[-1, 0] == pytest.approx(2)


def test_rows_outside_training_do_not_touch_what_training_sees():
    reference = encode(source(), TRAIN, standardize=True)
    changed = source()
    changed.numeric[40:] = 1e6
    changed.numeric[45] = np.nan
    changed.categorical[0].codes[40:] = 3
    other = encode(changed, TRAIN, standardize=True)
    assert reference.names == other.names
    np.testing.assert_array_equal(reference.inputs[TRAIN], other.inputs[TRAIN])


def test_a_column_without_values_in_training_is_named():
    raw = source()
    raw.numeric[TRAIN, 1] = np.nan
    with pytest.raises(UserError, match=r"no training row has a value in: x1.*data\.drop=\[x1\]"):
        encode(raw, TRAIN, standardize=True)


def test_values_missing_only_outside_training_are_imputed_without_a_warning():
    raw = source(numeric=np.ones((ROWS, 1)), categorical=())
    raw.numeric[50] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert encode(raw, TRAIN, standardize=False).inputs[50, 0] == 1


@pytest.mark.parametrize("row", [3, 55], ids=["training", "later"])
@pytest.mark.parametrize("standardize", [True, False])
def test_a_value_that_float32_cannot_hold_is_named(row, standardize):
    numeric = np.random.default_rng(0).normal(size=(ROWS, 3))
    numeric[row, 1] = -1.797e308
    with pytest.raises(UserError, match=rf"the column .x1. holds -1\.797e\+308 in row {row + 1}, which is too large"):
        encode(source(numeric=numeric), TRAIN, standardize)


def test_a_column_that_is_far_wider_outside_the_training_rows_is_named():
    numeric = np.random.default_rng(0).normal(size=(ROWS, 3))
    numeric[:, 1] *= 1e-9
    numeric[50, 1] = 1e31
    with pytest.raises(UserError, match=r"the column .x1. holds 1e\+31 in row 51, which is too large"):
        encode(source(numeric=numeric), TRAIN, standardize=True)
