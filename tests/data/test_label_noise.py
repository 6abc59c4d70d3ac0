"""Label noise: an exact share, always wrong, remembered, and only in training."""

import numpy as np
import pytest
import scipy.stats
import torch

from reglab.data import load
from reglab.data.label_noise import corrupt


@pytest.mark.parametrize("name", ["digits", "breast_cancer", "multilabel"])
def test_exactly_the_corrupted_rows_differ_from_their_clean_target(name):
    data = load({"name": name, "label_noise": 0.3})
    differ = data.train.targets != data.train.clean_targets
    if differ.ndim == 2:
        differ = differ.any(dim=1)
    assert torch.equal(differ, data.train.corrupted)
    assert data.train.corrupted.sum() == round(0.3 * len(data.train)) == data.summary["corrupted_rows"]


@pytest.mark.parametrize("name", ["digits", "breast_cancer", "multilabel", "diabetes"])
def test_validation_and_test_stay_as_they_are(name):
    clean, noisy = load({"name": name}), load({"name": name, "label_noise": 0.5})
    for part in ("val", "test"):
        assert torch.equal(getattr(clean, part).targets, getattr(noisy, part).targets)
        assert torch.equal(getattr(clean, part).inputs, getattr(noisy, part).inputs)
        assert not getattr(noisy, part).corrupted.any()
    assert torch.equal(clean.train.targets, noisy.train.clean_targets)
    assert torch.equal(clean.train.index, noisy.train.index)


def test_wrong_classes_are_uniform_over_the_others():
    targets, index = torch.full((9000,), 4), torch.arange(9000)
    wrong, _ = corrupt(targets, index, "classification", 10, rate=1.0, seed=0)
    counts = np.bincount(wrong.numpy(), minlength=10)
    assert counts[4] == 0
    assert scipy.stats.chisquare(np.delete(counts, 4)).pvalue > 1e-3


def test_corrupted_rows_are_a_uniform_choice():
    _, corrupted = corrupt(torch.zeros(20000), torch.arange(20000), "binary", 1, rate=0.25, seed=0)
    counts = corrupted.reshape(20, 1000).sum(dim=1).numpy()
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_a_multilabel_row_gets_any_other_set_of_labels():
    targets = torch.tensor([1.0, 0.0, 1.0]).repeat(7000, 1)
    wrong, _ = corrupt(targets, torch.arange(7000), "multilabel", 3, rate=1.0, seed=1)
    counts = np.bincount((wrong.numpy() @ [1, 2, 4]).astype(int), minlength=8)
    assert counts[5] == 0
    assert (counts[[0, 1, 2, 3, 4, 6, 7]] > 700).all()


def test_regression_targets_come_from_other_rows():
    targets = torch.arange(50.0)
    wrong, corrupted = corrupt(targets, torch.arange(50) * 3, "regression", 1, rate=0.4, seed=0)
    assert corrupted.sum() == 20
    assert (wrong[corrupted] != targets[corrupted]).all()
    assert torch.isin(wrong, targets).all()
    assert torch.equal(wrong[~corrupted], targets[~corrupted])


def test_several_outputs_come_from_the_same_other_row():
    targets = torch.stack([torch.arange(30.0), -torch.arange(30.0)], dim=1)
    wrong, _ = corrupt(targets, torch.arange(30), "regression", 2, rate=1.0, seed=0)
    assert torch.equal(wrong[:, 0], -wrong[:, 1])
    assert (wrong != targets).any(dim=1).all()


def test_a_higher_rate_corrupts_the_rows_of_a_lower_one_in_the_same_way():
    low, high = (load({"name": "digits", "label_noise": rate}).train for rate in (0.1, 0.4))
    assert high.corrupted[low.corrupted].all()
    assert torch.equal(low.targets[low.corrupted], high.targets[low.corrupted])


@pytest.mark.parametrize("rows", [1, 2])
def test_tiny_parts_work(rows):
    wrong, _ = corrupt(torch.arange(float(rows)), torch.arange(rows), "regression", 1, rate=1.0, seed=0)
    assert wrong.tolist() == list(range(rows))[::-1]


def test_the_seed_chooses_other_rows():
    first, second = (
        corrupt(torch.zeros(100), torch.arange(100), "binary", 1, rate=0.5, seed=seed)[1] for seed in (0, 1)
    )
    assert not torch.equal(first, second)
