"""Diabetes: 442 patients, 10 measurements, disease progression after one year."""

from reglab.data.checks import flag
from reglab.data.source import Source


def diabetes(*, standardize_target: bool = True) -> Source:
    """Return the data that comes with scikit-learn, in original units.

    Source:
        Efron, Hastie, Johnstone & Tibshirani (2004), Least angle regression.
    """
    from sklearn.datasets import load_diabetes

    bunch = load_diabetes(scaled=False)
    return Source(
        task="regression",
        numeric=bunch.data,
        numeric_names=tuple(bunch.feature_names),
        targets=bunch.target.astype(float),
        target_names=("progression",),
        standardize_target=flag("standardize_target", standardize_target),
    )
