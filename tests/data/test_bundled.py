"""The bundled sets hold scikit-learn's rows: the parts, put back in order, are the original."""

import numpy as np
import pytest
import sklearn.datasets
import torch

from reglab.data import DataSet, load

BUNDLED = {
    "digits": (sklearn.datasets.load_digits, "classification", 10),
    "breast_cancer": (sklearn.datasets.load_breast_cancer, "binary", 1),
    "wine": (sklearn.datasets.load_wine, "classification", 3),
    "diabetes": (lambda: sklearn.datasets.load_diabetes(scaled=False), "regression", 1),
}


def in_order(data: DataSet, field: str) -> np.ndarray:
    parts = (data.train, data.val, data.test)
    rows = torch.cat([part.index for part in parts])
    return torch.cat([getattr(part, field) for part in parts])[rows.argsort()].numpy()


@pytest.mark.parametrize("name", BUNDLED)
def test_parts_in_order_of_their_index_are_the_original(name):
    loader, task, outputs = BUNDLED[name]
    config = {"name": name, "standardize": False}
    data = load(config | ({"standardize_target": False} if name == "diabetes" else {}))
    bunch = loader()
    np.testing.assert_array_equal(in_order(data, "inputs"), bunch.data.astype(np.float32))
    np.testing.assert_array_equal(in_order(data, "targets"), bunch.target)
    assert (data.task, data.outputs) == (task, outputs)
    assert data.feature_names == tuple(bunch.feature_names)


@pytest.mark.parametrize("name", BUNDLED)
def test_tensors_have_the_types_and_shapes_of_the_contract(name):
    data = load({"name": name})
    for part in (data.train, data.val, data.test):
        assert part.inputs.dtype == torch.float32
        assert part.inputs.shape == (len(part), *data.input_shape)
        assert part.targets.dtype == (torch.int64 if data.task == "classification" else torch.float32)
        assert part.targets.shape == (len(part),)
        assert part.index.dtype == torch.int64
        assert torch.equal(part.weights, torch.ones(len(part)))
        assert not part.corrupted.any()
        assert torch.equal(part.clean_targets, part.targets)


def test_class_names():
    assert load({"name": "breast_cancer"}).target_names == ("malignant", "benign")
    assert load({"name": "digits"}).target_names == tuple("0123456789")


def test_digits_as_images_are_the_flat_rows_folded_up():
    flat, image = load({"name": "digits"}), load({"name": "digits", "shape": "image"})
    assert (flat.input_shape, image.input_shape) == ((64,), (1, 8, 8))
    assert torch.equal(image.train.inputs[:, 0, 2, 3], flat.train.inputs[:, 8 * 2 + 3])


def test_diabetes_target_can_be_scaled_back():
    data = load({"name": "diabetes"})
    scaled = in_order(data, "targets")
    original = sklearn.datasets.load_diabetes(scaled=False).target
    facts = data.summary
    restored = scaled * facts["target_std.progression"] + facts["target_mean.progression"]
    np.testing.assert_allclose(restored, original, rtol=1e-5)
    assert abs(data.train.targets.mean()) < 1e-6
    assert data.train.targets.std(correction=0) == pytest.approx(1, abs=1e-6)
