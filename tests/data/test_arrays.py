"""Data from Python: bundled sets by name, and the user's own arrays."""

import numpy as np
import pytest
import torch

from reglab.core.errors import UserError
from reglab.data import load
from reglab.data.arrays import dataset

GENERATOR = np.random.default_rng(0)
INPUTS = GENERATOR.normal(loc=5, scale=3, size=(100, 4))
LABELS = GENERATOR.integers(0, 3, size=100)
PARTS = ("train", "val", "test")


def rows_of(data):
    return torch.cat([getattr(data, part).index for part in PARTS])


def test_a_name_gives_the_bundled_set_with_its_options():
    made, wanted = (
        dataset("wine", train_size=40, label_noise=0.1),
        load({"name": "wine", "train_size": 40, "label_noise": 0.1}),
    )
    assert made.digest == wanted.digest
    assert len(made.train) == 40


@pytest.mark.parametrize(
    "targets, task, outputs, dtype, shape",
    [
        (LABELS, "classification", 3, torch.int64, (100,)),
        (np.array(["red", "green", "blue"])[LABELS], "classification", 3, torch.int64, (100,)),
        (LABELS > 0, "binary", 1, torch.float32, (100,)),
        (INPUTS @ [1.0, 0.5, 0.0, 2.0], "regression", 1, torch.float32, (100,)),
        (INPUTS @ GENERATOR.normal(size=(4, 2)), "regression", 2, torch.float32, (100, 2)),
        ((INPUTS[:, :3] > 5).astype(int), "multilabel", 3, torch.float32, (100, 3)),
    ],
)
def test_the_task_is_seen_from_the_targets(targets, task, outputs, dtype, shape):
    data = dataset(INPUTS, targets)
    assert (data.task, data.outputs, data.input_shape) == (task, outputs, (4,))
    assert data.train.targets.dtype == dtype
    assert (sum(len(getattr(data, part)) for part in PARTS), *data.train.targets.shape[1:]) == shape


def test_every_row_is_in_one_part_with_its_own_target():
    data = dataset(INPUTS, LABELS, standardize=False)
    assert torch.equal(rows_of(data).sort().values, torch.arange(100))
    for part in PARTS:
        rows = getattr(data, part)
        np.testing.assert_allclose(rows.inputs, INPUTS[rows.index], rtol=1e-6)
        np.testing.assert_array_equal(rows.targets, LABELS[rows.index])


def test_inputs_and_regression_targets_are_standardized_by_the_training_part():
    targets = INPUTS @ [1.0, 0.5, 0.0, 2.0]
    data = dataset(INPUTS, targets)
    rows = data.train.index.numpy()
    mean, deviation = INPUTS[rows].mean(0), INPUTS[rows].std(0)
    for part in (data.train, data.test):
        wanted = (INPUTS[part.index.numpy()] - mean) / deviation
        np.testing.assert_allclose(part.inputs, wanted, atol=1e-5)
        scaled = (targets[part.index.numpy()] - targets[rows].mean()) / targets[rows].std()
        np.testing.assert_allclose(part.targets, scaled, atol=1e-5)


def test_a_missing_value_becomes_the_training_part_s_median():
    holes = INPUTS.copy()
    holes[::7, 1] = np.nan
    data = dataset(holes, LABELS, standardize=False)
    median = np.nanmedian(holes[data.train.index.numpy(), 1])
    for part in (data.train, data.val, data.test):
        column = holes[part.index.numpy(), 1]
        np.testing.assert_allclose(part.inputs[:, 1], np.where(np.isnan(column), median, column), rtol=1e-6)


def test_images_keep_their_shape():
    images = GENERATOR.normal(size=(60, 2, 5, 4))
    data = dataset(images, LABELS[:60], standardize=False)
    assert data.input_shape == (2, 5, 4)
    assert data.train.inputs.shape[1:] == (2, 5, 4)
    np.testing.assert_allclose(data.train.inputs, images[data.train.index.numpy()], rtol=1e-6)


def test_tensors_and_lists_are_arrays_too():
    wanted = dataset(INPUTS, LABELS)
    for inputs, targets in (
        (torch.from_numpy(INPUTS), torch.from_numpy(LABELS)),
        (INPUTS.tolist(), LABELS.tolist()),
    ):
        made = dataset(inputs, targets)
        assert made.digest == wanted.digest
        assert torch.equal(made.test.inputs, wanted.test.inputs)


def test_the_digest_is_of_the_values_and_the_options():
    wanted = dataset(INPUTS, LABELS).digest
    changed = INPUTS.copy()
    changed[3, 2] += 1e-3
    assert dataset(INPUTS.copy(), LABELS).digest == wanted
    assert dataset(changed, LABELS).digest != wanted
    assert dataset(INPUTS, LABELS, split_seed=1).digest != wanted


def test_the_user_s_arrays_are_not_changed():
    inputs, labels = INPUTS.copy(), LABELS.copy()
    data = dataset(inputs, labels, label_noise=0.5)
    data.train.inputs.zero_()
    np.testing.assert_array_equal(inputs, INPUTS)
    np.testing.assert_array_equal(labels, LABELS)


@pytest.mark.parametrize(
    "given, options, message",
    [
        (("wien",), {}, "did you mean 'wine'"),
        (("wine", LABELS), {}, "with its own targets"),
        ((INPUTS,), {}, "give targets as well"),
        ((INPUTS, LABELS), {"train_sise": 5}, "did you mean 'train_size'"),
        (("wine",), {"train_sise": 5}, "did you mean 'train_size'"),
        ((INPUTS, LABELS[:50]), {}, r"\(100, 4\) and targets \(50,\)"),
        ((INPUTS[:, 0], LABELS), {}, r"\(100,\)"),
        ((INPUTS, LABELS), {"task": "classify"}, "did you mean 'classification'"),
        ((INPUTS, np.where(LABELS == 0, np.nan, 1.5)), {}, "target"),
        ((np.where(INPUTS > 9, np.inf, INPUTS), LABELS), {}, "inf"),
        ((INPUTS, np.zeros(100)), {}, "target"),
        ((INPUTS[:2], LABELS[:2]), {}, "row"),
        ((np.array([["a", "b"]] * 100), LABELS), {}, "number"),
        ((INPUTS, LABELS), {"group": "g", "split": "grouped"}, "group"),
        ((INPUTS, LABELS), {"sample_weight": "w"}, "sample_weight"),
    ],
)
def test_what_cannot_be_trained_on_is_told(given, options, message):
    with pytest.raises(UserError, match=message):
        dataset(*given, **options)
