"""Wine: 178 rows, 13 chemical measurements, 3 cultivars."""

import numpy as np

from reglab.data.source import Source


def wine() -> Source:
    """Return the data that comes with scikit-learn.

    Source:
        Aeberhard & Forina (1992), Wine, UCI machine learning repository.
    """
    from sklearn.datasets import load_wine

    bunch = load_wine()
    return Source(
        task="classification",
        numeric=bunch.data,
        numeric_names=tuple(bunch.feature_names),
        targets=bunch.target.astype(np.int64),
        target_names=tuple(str(name) for name in bunch.target_names),
    )
