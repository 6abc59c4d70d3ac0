"""Handwritten digits, 1797 images of 8 x 8 pixels, 10 classes."""

import numpy as np

from reglab.data.checks import choice
from reglab.data.source import Source

AUTO = "auto"  # what the model of a job reads; without one, flat
SHAPES = (AUTO, "flat", "image")


def digits(*, shape: str = AUTO) -> Source:
    """Return the digits that come with scikit-learn; pixels from 0 to 16.

    Args:
        shape: ``flat`` [64], or ``image`` [1, 8, 8] for a convolutional net; ``auto`` is flat here,
            see ``models.reads``.

    Source:
        Alpaydin & Kaynak (1998), Optical recognition of handwritten digits, UCI machine
        learning repository.
    """
    from sklearn.datasets import load_digits

    choice("shape", shape, SHAPES)
    bunch = load_digits()
    return Source(
        task="classification",
        numeric=bunch.data,
        numeric_names=tuple(bunch.feature_names),
        targets=bunch.target.astype(np.int64),
        target_names=tuple(str(name) for name in bunch.target_names),
        shape=(1, 8, 8) if shape == "image" else None,
        homogeneous=True,
    )
