"""The sweep functions against numpy, and how Hydra's grammar is kept from meeting them."""

import numpy as np
import pytest

from reglab.errors import UserError
from reglab.sweeps.functions import linear, log, rewrite


@pytest.mark.parametrize("low, high, n", [(1e-5, 1e-2, 8), (3.0, 0.1, 5), (1e-4, 1e-2, 2)])
def test_log_is_numpys_geomspace_to_six_digits(low, high, n):
    np.testing.assert_allclose(log(low, high, n), np.geomspace(low, high, n), rtol=5e-6)
    assert (log(low, high, n)[0], log(low, high, n)[-1]) == (low, high)


@pytest.mark.parametrize("low, high, n", [(0.1, 0.7, 4), (-1.0, 1.0, 9), (0, 1, 3)])
def test_linear_is_numpys_linspace_to_six_digits(low, high, n):
    np.testing.assert_allclose(linear(low, high, n), np.linspace(low, high, n), rtol=5e-6, atol=1e-12)


def test_integers_stay_integers():
    assert [repr(value) for value in log(16, 256, 5)] == ["16", "32", "64", "128", "256"]
    assert [repr(value) for value in linear(1, 2, 3)] == ["1.0", "1.5", "2.0"]


@pytest.mark.parametrize(
    "given, expected",
    [
        ("a=log(1e-4,1e-2,3)", "a=choice(0.0001,0.001,0.01)"),
        ("+a.b=linear(0,4,3)", "+a.b=choice(0,2,4)"),
        ("a=1,2", "a=1,2"),
        ("a=range(1,4)", "a=range(1,4)"),
        ("s=[{k:log(1,100,3)},{k:range(1,4)}]", "s=[{k:'choice(1,10,100)'},{k:'range(1,4,1)'}]"),
        ("a=log(1", "a=log(1"),  # left to Hydra, which says what is wrong with it
    ],
)
def test_rewrite(given, expected):
    assert rewrite([given]) == [expected]


@pytest.mark.parametrize("wrong", ["a=log(0,1,3)", "a=log(1e-3,1,1)", "a=linear(x,1,3)", "a=log(1,2)"])
def test_a_wrong_argument_is_told(wrong):
    with pytest.raises(UserError, match="a=l"):
        rewrite([wrong])
