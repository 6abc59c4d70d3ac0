"""Breast cancer (Wisconsin, diagnostic): 569 rows, 30 features, malignant or benign."""

import numpy as np

from reglab.data.source import Source


def breast_cancer() -> Source:
    """Return the data that comes with scikit-learn; 0 is malignant, 1 benign.

    Source:
        Street, Wolberg & Mangasarian (1993), Nuclear feature extraction for breast tumor diagnosis.
    """
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer()
    return Source(
        task="binary",
        numeric=bunch.data,
        numeric_names=tuple(str(name) for name in bunch.feature_names),
        targets=bunch.target.astype(np.int64),
        target_names=tuple(str(name) for name in bunch.target_names),
    )
