"""Multilabel targets."""

import torch

from reglab.data import load


def test_targets_are_several_zeros_and_ones():
    data = load({"name": "multilabel", "rows": 300, "features": 12, "labels": 4})
    assert (data.task, data.outputs, data.input_shape) == ("multilabel", 4, (12,))
    assert data.train.targets.shape == (180, 4)
    assert data.train.targets.dtype == torch.float32
    assert set(data.train.targets.unique().tolist()) == {0.0, 1.0}
    assert data.train.targets.sum(dim=1).max() > 1
    assert data.summary["split"] == "random"
