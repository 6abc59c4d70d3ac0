"""L1 gives exact zeros, and finds the true features."""

import numpy as np

from reglab.api.claims.claim import Claim, Found, Number, Panel, chosen_values, lines
from reglab.api.claims.trainings import Booleans, Floats, Setup, Trainings
from reglab.regularizers import L1

_WEIGHT = "head.weight"


def _judge(trainings: Trainings) -> Found:
    zero = trainings.weight(_WEIGHT)[:, :, 0] == 0  # [repetitions, settings, features]
    relevant = np.stack([_relevant(trainings, repetition) for repetition in range(len(trainings.data))])
    chosen = trainings.strongest(trainings.setup.indices(L1))
    kept = _share(~zero, relevant)
    numbers = [
        Number("weights that are exactly 0 with L1", chosen_values(zero.mean(-1), chosen), 0.25, percent=True),
        Number("the same without", tuple(zero[:, 0].mean(-1).tolist()), 0.01, at_most=True, percent=True),
        Number("true features that keep a weight", chosen_values(kept, chosen), 0.9, percent=True),
    ]
    shares = {"true_features_kept": kept}
    if not relevant.all():
        removed = _share(zero, ~relevant)
        numbers.append(
            Number("other features whose weight is exactly 0", chosen_values(removed, chosen), 0.5, percent=True)
        )
        shares["others_exactly_0"] = removed
    return Found(
        tuple(numbers), (Panel("Share of features", trainings.setup.labels(L1), lines(**shares), percent=True),)
    )


def _relevant(trainings: Trainings, repetition: int) -> Booleans:
    relevant = trainings.data[repetition].relevant
    assert relevant is not None
    known: Booleans = relevant.numpy()
    return known


def _share(which: Booleans, among: Booleans) -> Floats:
    """Return the share of features, ``[repetitions, settings]``, among those of each repetition."""
    among = among[:, None]
    share: Floats = (which & among).sum(-1) / among.sum(-1)
    return share


CLAIM = Claim(
    name="l1_zeros",
    question="Does L1 give exact zeros, and find the true features?",
    method=(
        "Linear models learn 240 rows with 100 independent inputs, of which 10 matter. L1's strength is the largest "
        "whose loss on 200 validation rows is within one standard error of the lowest. A weight counts as zero only if "
        "it is 0 bit for bit."
    ),
    setup=Setup(
        data={"name": "sparse_regression", "rows": 500, "features": 100, "val_size": 200, "test_size": 60},
        drawn="seed",
        regularizers={L1: (2e-2, 4e-2, 6e-2, 9e-2, 0.13, 0.2, 0.3)},
        epochs=150,
        lr=1e-2,
    ),
    judge=_judge,
    counterexample="All 100 inputs matter: the truth is dense.",
    counter={"data": {"informative": 100}},
    source="Tibshirani (1996), Regression shrinkage and selection via the Lasso",
)
