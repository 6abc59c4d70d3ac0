"""Which terms of the results by example a metric is read from."""

import numpy as np
import pytest

from reglab.analysis.scored import Side, reader_of

SIDE = Side(np.arange(2), np.array([1.0, 3.0]), np.array([0.5, 0.7]), np.array([10.0, 20.0]))


@pytest.mark.parametrize(
    "metric, monitor, mean",
    [
        ("val/loss", "val/price/rmse", 2.0),
        ("val/price/rmse", "val/price/rmse", 15.0),
        ("val/price/r2", "val/price/rmse", -0.6),
        ("val/accuracy", "val/f1", -0.6),
        ("val/f1", "val/f1", -15.0),
    ],
)
def test_the_monitor_and_the_score_of_several_targets_are_told_apart(metric, monitor, mean):
    assert reader_of(metric, monitor)(SIDE).values == pytest.approx(mean)


def test_the_score_may_be_the_monitor():
    alone = SIDE._replace(monitor=None)
    assert reader_of("val/price/r2", "val/price/r2")(alone).values == pytest.approx(-0.6)
