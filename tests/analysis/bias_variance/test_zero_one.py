"""0-1 loss: Domingos' decomposition against a loop over rows."""

import numpy as np
import pytest

from reglab.analysis.bias_variance.zero_one import zero_one

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("classes", [2, 4])
def test_each_row_is_what_a_loop_counts(classes: int) -> None:
    predictions, targets = RANDOM.integers(0, classes, (7, 50)), RANDOM.integers(0, classes, 50)
    found = zero_one(predictions, targets, classes)
    for row in range(50):
        votes = predictions[:, row].tolist()
        main = max(range(classes), key=lambda c: (votes.count(c), -c))
        wrong, right = main != targets[row], votes.count(int(targets[row])) / 7
        assert found.bias[row] == wrong
        assert found.variance[row] == pytest.approx(1 - votes.count(main) / 7)
        assert found.adds[row] == pytest.approx(0 if wrong else 1 - right)
        assert found.helps[row] == pytest.approx(right if wrong else 0)
    np.testing.assert_allclose(found.risk, (predictions != targets).mean(0))


def test_of_two_classes_the_signed_variance_adds_up_to_the_error() -> None:
    predictions, targets = RANDOM.integers(0, 2, (6, 80)), RANDOM.integers(0, 2, 80)
    found = zero_one(predictions, targets, 2)
    np.testing.assert_allclose(found.risk, found.bias + found.adds - found.helps, atol=1e-12)
    np.testing.assert_allclose(found.variance, found.adds + found.helps, atol=1e-12)


def test_of_more_classes_variance_may_be_no_part_of_the_error() -> None:
    """The main prediction is wrong, and so are the runs that differ from it: they neither add nor help."""
    found = zero_one(np.array([[1], [1], [2]]), np.array([0]), 3)
    assert (found.bias, found.variance, found.adds, found.helps) == (1, pytest.approx(1 / 3), 0, 0)
