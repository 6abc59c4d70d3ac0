"""Multilabel: documents of made-up words, each with some of several topics."""

import numpy as np

from reglab.data.checks import whole
from reglab.data.source import Source


def multilabel(
    *, rows: int = 600, features: int = 40, labels: int = 5, labels_per_row: int = 2, seed: int = 0
) -> Source:
    """Return counts [rows, features] of words, and the topics [rows, labels] of each row.

    Args:
        rows: Number of documents.
        features: Number of words.
        labels: Number of topics.
        labels_per_row: Mean number of topics of a row, before those above ``labels`` are redrawn.
        seed: Seed of all draws, >= 0.

    Source:
        scikit-learn's ``make_multilabel_classification``, a multinomial mixture.
    """
    from sklearn.datasets import make_multilabel_classification

    inputs, targets = make_multilabel_classification(
        n_samples=whole("rows", rows, 1),
        n_features=whole("features", features, 1),
        n_classes=whole("labels", labels, 1),
        n_labels=whole("labels_per_row", labels_per_row, 1),
        random_state=whole("seed", seed, 0),
    )
    return Source(
        task="multilabel",
        numeric=inputs.astype(np.float64),
        numeric_names=tuple(f"word_{word}" for word in range(features)),
        targets=targets.astype(np.float64),
        target_names=tuple(f"topic_{topic}" for topic in range(labels)),
    )
