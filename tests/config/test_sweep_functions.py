"""The sweep functions against numpy, and how Hydra's grammar is kept from meeting them."""

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from reglab.config.sweep_functions import grammar, linear, log, rewrite, values
from reglab.core.errors import UserError


@pytest.mark.parametrize("low, high, n", [(1e-5, 1e-2, 8), (3.0, 0.1, 5), (1e-4, 1e-2, 2)])
def test_log_is_numpys_geomspace_in_few_digits(low, high, n):
    exact = np.geomspace(low, high, n)
    assert (abs(log(low, high, n) - exact) <= abs(np.diff(exact)).min() / 100).all()
    assert (log(low, high, n)[0], log(low, high, n)[-1]) == (low, high)


@pytest.mark.parametrize("low, high, n", [(0.1, 0.7, 4), (-1.0, 1.0, 9), (0, 1, 3)])
def test_linear_is_numpys_linspace_in_few_digits(low, high, n):
    exact = np.linspace(low, high, n)
    assert (abs(linear(low, high, n) - exact) <= abs(np.diff(exact)).min() / 100).all()


def test_values_are_as_short_as_their_distance_allows():
    assert log(3e-5, 3e-3, 5) == [3e-5, 9.49e-5, 3e-4, 9.49e-4, 3e-3]
    assert len(set(log(1.0, 1.001, 50))) == 50


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


@pytest.mark.parametrize(
    "argument, expected",
    [
        ('data.target="y[0]","y (%)/é"', ["y[0]", "y (%)/é"]),
        ('data.target="2023","y (%)"', ["2023", "y (%)"]),
        ('data.target=choice("2023","true",2023)', ["2023", "true", 2023]),
        ('data.target=choice(["2023",a],["b, c"])', [["2023", "a"], ["b, c"]]),
        ('name="log(x)",a', ["log(x)", "a"]),
        ("seed=choice(1,2)", [1, 2]),
    ],
)
def test_values_of_a_sweep_stay_what_was_written(argument, expected):
    [rewritten] = rewrite([argument])
    texts = values(grammar().parse_override(rewritten))
    assert [OverridesParser.create().parse_override(f"k={text}").value() for text in texts] == expected
