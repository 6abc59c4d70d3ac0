"""L2 shrinks without zeros, and spreads weight over correlated features."""

import numpy as np

from reglab.api.claims.claim import Claim, Found, Number, Panel, chosen_values, lines
from reglab.api.claims.trainings import Floats, Setup, Trainings
from reglab.regularizers import L1, L2


def _judge(trainings: Trainings) -> Found:
    weights = trainings.weight("head.weight")[:, :, 0]
    lengths = np.linalg.norm(weights, axis=-1)
    even = np.stack([_evenness(trainings, repetition, weights) for repetition in range(len(weights))])
    indices = {cls: trainings.setup.indices(cls) for cls in (L1, L2)}
    l1, l2 = (trainings.chosen(indices[cls]) for cls in (L1, L2))
    zeros = (weights[:, indices[L2]] == 0).mean((-2, -1))
    return Found(
        (
            Number(
                "how much shorter the weights are with L2 than without",
                chosen_values(1 - lengths / lengths[:, :1], l2),
                0.1,
                percent=True,
            ),
            Number("weights that are exactly 0 with L2", tuple(zeros.tolist()), 0.01, at_most=True, percent=True),
            Number(
                "how much more evenly L2 spreads weight in a group than L1",
                tuple(a - b for a, b in zip(chosen_values(even, l2), chosen_values(even, l1), strict=True)),
                0.1,
                percent=True,
            ),
        ),
        (
            Panel(
                "Evenness in a group, by rising strength",
                ("none", *(f"strength {number}" for number in range(1, len(indices[L2]) + 1))),
                lines(**{cls.__name__: even[:, [0, *indices[cls]]] for cls in (L2, L1)}),
                percent=True,
            ),
        ),
    )


def _evenness(trainings: Trainings, repetition: int, weights: Floats) -> Floats:
    """Return how evenly weight lies in the informative groups, ``[settings]``.

    ``(sum |w|)^2 / (n sum w^2)``, its mean over groups: 1 where all n features of a group have the same
    weight but for the sign, 1/n where one has all of it.
    """
    data = trainings.data[repetition]
    assert data.feature_groups is not None
    assert data.relevant is not None
    groups, relevant = data.feature_groups.numpy(), data.relevant.numpy()
    found = []
    for group in np.unique(groups[relevant]):
        size = np.abs(weights[repetition][:, groups == group])
        total = size.shape[-1] * (size**2).sum(-1)
        # Without any weight nothing is spread.
        found.append(np.divide(size.sum(-1) ** 2, total, out=np.zeros(len(size)), where=total > 0))
    evenness: Floats = np.mean(found, axis=0)
    return evenness


CLAIM = Claim(
    name="l2_spread",
    question="Does L2 shrink without zeros, and spread weight over correlated features?",
    method=(
        "Linear models learn 150 rows with 20 groups of 5 inputs, of correlation 0.95 within a group; 4 groups matter, "
        "all of whose inputs have the same coefficient. The strengths of L1 and L2 are those with the lowest loss on "
        "200 validation rows. Evenness is (Σ|w|)² / (n Σw²) over the n inputs of a group: 100% where all have the same "
        "weight, 20% where one of the five has all of it."
    ),
    setup=Setup(
        data={"name": "correlated_regression", "rows": 400, "val_size": 200, "test_size": 50},
        drawn="seed",
        regularizers={L1: (3e-3, 1e-2, 3e-2, 0.1), L2: (1e-2, 5e-2, 0.2, 1.0)},
        epochs=150,
        lr=1e-2,
    ),
    judge=_judge,
    counterexample="The inputs are not correlated: there is nothing to spread over.",
    counter={"data": {"correlation": 0.0}},
    source="Zou, Hastie (2005), Regularization and variable selection via the elastic net",
)
