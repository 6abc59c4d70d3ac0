"""Orders from which splits are cut."""

import numpy as np
import pytest

from reglab.data.split import block_positions, row_positions, stratified_order

CLASSES = np.array([0] * 60 + [1] * 30 + [2] * 10)


@pytest.fixture
def shuffled():
    return np.random.default_rng(0).permutation(len(CLASSES))


def test_every_stretch_is_in_proportion(shuffled):
    order = stratified_order(CLASSES, shuffled, offset=0.5)
    share = np.array([0.6, 0.3, 0.1])
    for start in range(100):
        for stop in range(start + 1, 101):
            counts = np.bincount(CLASSES[order[start:stop]], minlength=3)
            assert np.abs(counts - share * (stop - start)).max() < 2


def test_offset_zero_shows_every_class_in_the_first_rows(shuffled):
    order = stratified_order(CLASSES, shuffled, offset=0.0)
    assert sorted(CLASSES[order[:3]]) == [0, 1, 2]
    assert sorted(order) == list(range(100))


def test_within_a_class_the_shuffled_order_is_kept(shuffled):
    order = stratified_order(CLASSES, shuffled, offset=0.5)
    for label in range(3):
        assert order[CLASSES[order] == label].tolist() == shuffled[CLASSES[shuffled] == label].tolist()


def test_places():
    assert row_positions(np.array([2, 0, 1])).tolist() == [1.5, 2.5, 0.5]
    assert block_positions(np.array([1, 0, 1, 1])).tolist() == [2.5, 0.5, 2.5, 2.5]
