import pytest
from mlflow.utils.validation import _validate_metric_name

from reglab.tracking.store_keys import store_key

ODD = [
    "w[0]",
    "a//b",
    "../a",
    "/a",
    "a/./b",
    "loss (train)",
    "é|ü",
    "a/",
    "..",
    "x" * 251,
    "x" * 252,
    "a//b/..",
    ".",
    "..b",
]


@pytest.mark.parametrize("key", ["weights/layers.0.weight/l1", "gap/loss_low", "final/val/loss", "été", "a: b"])
def test_a_key_that_mlflow_takes_is_left(key):
    _validate_metric_name(key)
    assert store_key(key) == key


@pytest.mark.parametrize("key", ODD)
def test_any_other_key_becomes_one_that_mlflow_takes(key):
    stored = store_key(key)
    _validate_metric_name(stored)
    assert 0 < len(stored) <= 250


def test_different_keys_stay_different():
    assert len({store_key(key) for key in [*ODD, "w(0)", "a/b", "a", "x" * 250]}) == len(ODD) + 4
