"""The vectorized generator against a plain loop over signals."""

import numpy as np
import pytest
import scipy.ndimage
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from reglab.data import load
from reglab.data.mnist1d import generate, interpolate, smooth, stretch, templates


def test_stretch_is_pad_resample_and_roll():
    strokes = templates()
    padding, shift = np.array([36, 40, 60, 51.0] * 2 + [36, 60]), np.array([0, 1, 47, 20.0] * 2 + [0, 47])
    signals, drawn = stretch(strokes, padding, shift)
    for row in range(10):
        padded = np.concatenate([strokes[row], np.zeros(int(padding[row]))])
        inside = np.concatenate([np.ones(12), np.zeros(int(padding[row]))])
        old, new = np.linspace(0, 1, len(padded)), np.linspace(0, 1, 72)
        expected = np.roll(np.interp(new, old, padded), int(shift[row]))
        np.testing.assert_allclose(signals[row], expected, atol=1e-12)
        np.testing.assert_array_equal(drawn[row], np.roll(np.interp(new, old, inside) > 0, int(shift[row])))


def test_interpolate_is_numpys():
    values = np.random.default_rng(0).normal(size=(3, 72))
    position = np.linspace(0, 71, 40)
    expected = [np.interp(position, np.arange(72), row) for row in values]
    np.testing.assert_allclose(interpolate(values, np.broadcast_to(position, (3, 40))), expected, atol=1e-12)


def test_smooth_filters_each_signal_by_itself():
    noise = np.random.default_rng(0).normal(size=(4, 72))
    np.testing.assert_allclose(smooth(noise), [scipy.ndimage.gaussian_filter(row, 2) for row in noise], atol=1e-12)


def test_templates_begin_and_end_at_zero_and_differ():
    strokes = templates()
    assert not strokes[:, [0, -1]].any()
    np.testing.assert_allclose(strokes.std(axis=1), 1 / 6)
    distances = np.linalg.norm(strokes[:, None] - strokes[None], axis=2)
    assert distances[~np.eye(10, dtype=bool)].min() > 0.1


def test_classes_are_equally_many_and_inputs_standardized_over_training():
    data = load({"name": "mnist1d", "rows": 1000})
    targets = torch.cat([data.train.targets, data.val.targets, data.test.targets])
    assert torch.bincount(targets).tolist() == [100] * 10
    assert data.train.inputs.mean().item() == pytest.approx(0, abs=1e-5)
    assert data.train.inputs.std(correction=0).item() == pytest.approx(1, abs=1e-5)


def test_shapes():
    assert load({"name": "mnist1d", "rows": 100}).train.inputs.shape == (60, 40)
    assert load({"name": "mnist1d", "rows": 100, "shape": "image"}).train.inputs.shape == (60, 1, 40)


def test_the_seed_changes_the_signals():
    assert not np.allclose(generate(20, 0)[0], generate(20, 1)[0])


def test_a_linear_model_finds_it_hard_and_neighbours_are_better_than_chance():
    """Greydanus & Kobak report 32% for a linear model.

    The random shift keeps the classes from being separable.
    """
    data = load({"name": "mnist1d"})
    train, val = data.train, data.val
    linear = LogisticRegression(max_iter=1000).fit(train.inputs.numpy(), train.targets.numpy())
    nearest = KNeighborsClassifier(5).fit(train.inputs.numpy(), train.targets.numpy())
    assert 0.2 < linear.score(val.inputs.numpy(), val.targets.numpy()) < 0.45
    assert nearest.score(val.inputs.numpy(), val.targets.numpy()) > 0.35
