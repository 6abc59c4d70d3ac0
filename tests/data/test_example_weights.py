"""Example weights against scikit-learn, and their mean."""

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from reglab.core.errors import UserError
from reglab.data import load
from reglab.data.example_weights import example_weights
from reglab.data.options import Options
from reglab.data.source import Source


def source(classes: np.ndarray, sample_weight: np.ndarray | None = None) -> Source:
    inputs = np.zeros((len(classes), 1))
    return Source("classification", inputs, ("x",), classes, ("a", "b", "c"), sample_weight=sample_weight)


def test_balanced_is_scikit_learns_over_the_training_rows():
    data = load({"name": "breast_cancer", "class_weight": "balanced"})
    classes = data.train.targets.numpy()
    expected = compute_class_weight("balanced", classes=np.array([0.0, 1.0]), y=classes)
    for part in (data.train, data.val, data.test):
        torch.testing.assert_close(part.weights, torch.tensor(expected, dtype=torch.float32)[part.targets.long()])


def test_balanced_gives_every_class_the_same_total():
    train = load({"name": "wine", "class_weight": "balanced"}).train
    totals = [train.weights[train.targets == label].sum().item() for label in range(3)]
    assert totals == pytest.approx([len(train) / 3] * 3, rel=1e-5)


def test_balanced_counts_the_labels_that_training_sees():
    train = load({"name": "breast_cancer", "class_weight": "balanced", "label_noise": 0.4}).train
    totals = [train.weights[train.targets == label].sum().item() for label in (0, 1)]
    assert totals == pytest.approx([len(train) / 2] * 2, rel=1e-5)


def test_given_weights_keep_their_ratio_and_missing_ones_are_one():
    data = load({"name": "breast_cancer", "class_weight": {"malignant": 3}})
    assert data.train.weights.mean().item() == pytest.approx(1, abs=1e-6)
    ratio = data.val.weights[data.val.targets == 0][0] / data.val.weights[data.val.targets == 1][0]
    assert ratio.item() == pytest.approx(3, rel=1e-6)


def test_class_names_that_are_numbers_work_as_keys():
    train = load({"name": "digits", "class_weight": {8: 2.0, "3": 0.0}}).train
    assert train.weights[train.targets == 3].max() == 0
    eight, one = (train.weights[train.targets == label][0].item() for label in (8, 1))
    assert eight == pytest.approx(2 * one)


def test_sample_and_class_weights_multiply_and_average_to_one_over_training():
    classes, sample = np.array([0, 1, 2, 0]), np.array([1.0, 2.0, 3.0, 4.0])
    options = Options(class_weight={"a": 10, "c": 0})
    weights = example_weights(source(classes, sample), classes, np.array([0, 1, 2]), options)
    np.testing.assert_allclose(weights, np.array([10, 2, 0, 40]) / 4)


def test_an_unknown_class_is_named_with_the_nearest():
    with pytest.raises(UserError, match=r"'malignent'.*did you mean 'malignant'"):
        load({"name": "breast_cancer", "class_weight": {"malignent": 2}})


@pytest.mark.parametrize("name", ["diabetes", "multilabel"])
def test_tasks_without_classes_refuse_class_weights(name):
    with pytest.raises(UserError, match=r"data\.class_weight needs classes"):
        load({"name": name, "class_weight": "balanced"})


def test_weights_that_are_all_zero_are_refused():
    classes = np.array([0, 1, 2])
    with pytest.raises(UserError, match="weight 0"):
        example_weights(source(classes, np.zeros(3)), classes, np.arange(3), Options())
