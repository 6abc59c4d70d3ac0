"""0-1 loss by the main prediction: bias, variance, and the variance's net effect on the error."""

from dataclasses import dataclass

import numpy as np

from reglab.analysis.bias_variance.pairs import Floats, Integers


@dataclass(frozen=True)
class ZeroOne:
    """The parts of the error rate of each row, ``[rows]``; plug-in estimates of K runs.

    Attributes:
        risk: Share of the runs that are wrong.
        bias: 1 where the main prediction is wrong.
        variance: Share of the runs that differ from the main prediction.
        adds: The share of the runs that are wrong where the main prediction is right.
        helps: The share of the runs that are right where the main prediction is wrong.
        classes: How many there are. Of two, ``risk = bias + adds - helps`` with ``adds + helps =
            variance``: the decomposition of the error. Of more, a run may differ from a wrong main
            prediction by another wrong class, and the variance is no part of the error.
    """

    risk: Floats
    bias: Floats
    variance: Floats
    adds: Floats
    helps: Floats
    classes: int


def zero_one(predictions: Integers, targets: Integers, classes: int) -> ZeroOne:
    """Return bias and variance of the 0-1 loss.

    The main prediction of a row is the class that most runs predict, the first of equals.

    Args:
        predictions: Class numbers ``[runs, rows]``.
        targets: ``[rows]``.
        classes: How many there are.

    Source:
        Domingos (2000), A unified bias-variance decomposition.
    """
    votes = (predictions[..., None] == np.arange(classes)).sum(0)
    main = votes.argmax(-1)
    right = (predictions == targets).mean(0)
    differs = (predictions != main).mean(0)
    bias = (main != targets).astype(np.float64)
    return ZeroOne(
        risk=1 - right, bias=bias, variance=differs, adds=(1 - bias) * differs, helps=bias * right, classes=classes
    )
