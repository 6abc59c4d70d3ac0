import math

import pytest

from reglab.analysis.estimate import Interval
from reglab.analysis.formatting import bracket, compact, listing, metric_name, number, percent, shortened, spread


@pytest.mark.parametrize(
    "value, text",
    [
        (0, "0.000"),
        (0.9996, "1.000"),
        (-0.25, "-0.250"),
        (2.3026, "2.303"),
        (12.345, "12.3"),
        (54321.0, "5.432e+04"),
        (4.2e-5, "4.2e-5"),
        (math.nan, "-"),
    ],
)
def test_number(value, text):
    assert number(value) == text


@pytest.mark.parametrize("value, text", [(0.01, "0.01"), (1e-4, "1e-4"), (3.5e-5, "3.5e-5"), (100, "100"), (0, "0")])
def test_compact(value, text):
    assert compact(value) == text
    assert float(compact(value)) == value


@pytest.mark.parametrize(
    "share, text", [(0, "0%"), (1, "100%"), (1e-5, "<0.1%"), (0.99999, ">99.9%"), (0.843, "84.3%"), (math.nan, "-")]
)
def test_percent_shows_0_and_100_only_where_exact(share, text):
    assert percent(share) == text


def test_bracket_and_spread():
    assert bracket(Interval(0.12, -0.0004, 0.2)) == "0.120 [0.000, 0.200]"
    assert bracket(Interval(0.12, math.nan, math.nan)) == "0.120"
    assert spread(0.12, 0.02) == "0.120 ±0.020"
    assert spread(0.12, math.nan) == "0.120"


def test_listing_counts_what_it_leaves_out():
    assert listing(["a"]) == "a"
    assert listing(["a", "b", "c"]) == "a, b and c"
    assert listing(["a", "b", "c", "d"], limit=2) == "a, b and 2 more"


def test_names():
    assert metric_name("val/loss") == "validation loss"
    assert metric_name("gap/r2") == "gap in R²"
    assert shortened("abcdef", 4) == "abc…"
