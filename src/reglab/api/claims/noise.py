"""An over-complex model fits noise, and less of it under a penalty."""

from reglab.api.claims.claim import Claim, Found, Line, Number, Panel, chosen_values
from reglab.api.claims.trainings import Setup, Trainings
from reglab.regularizers import L2

_NOISE = 0.2


def _judge(trainings: Trainings) -> Found:
    fitted = [_fitted(trainings, repetition) for repetition in range(len(trainings.data))]
    wrong = [_wrong(trainings, repetition) for repetition in range(len(trainings.data))]
    chosen = trainings.chosen(trainings.setup.indices(L2))
    plain = tuple(row[0] for row in fitted)
    under_l2 = chosen_values(fitted, chosen)
    better = tuple(row[0] - row[index] for row, index in zip(wrong, chosen, strict=True))
    less = tuple(before - after for before, after in zip(plain, under_l2, strict=True))
    return Found(
        (
            Number("wrong labels that are fitted without a penalty", plain, 0.05, percent=True),
            Number("fewer of them with L2", less, 0.05, percent=True),
            Number("fewer errors on new rows with L2", better, 0.0, percent=True),
        ),
        (
            Panel(
                "Share of rows",
                trainings.setup.labels(L2),
                (Line("wrong labels fitted", tuple(fitted)), Line("errors on new rows", tuple(wrong))),
                percent=True,
            ),
        ),
    )


def _fitted(trainings: Trainings, repetition: int) -> tuple[float, ...]:
    """Return the training rows whose label is wrong and learnt, as a share of all, ``[settings]``."""
    part = trainings.data[repetition].train
    learnt = trainings.outputs(repetition, "train")[:, 0].argmax(-1) == part.targets
    return tuple((learnt & part.corrupted).double().mean(-1).tolist())


def _wrong(trainings: Trainings, repetition: int) -> tuple[float, ...]:
    """Return the share of test rows that are not recognized, ``[settings]``."""
    wrong = trainings.outputs(repetition, "test")[:, 0].argmax(-1) != trainings.data[repetition].test.targets
    return tuple(wrong.double().mean(-1).tolist())


CLAIM = Claim(
    name="noise",
    question="Does an over-complex model fit noise, and less of it under a penalty?",
    method=(
        "Networks of two hidden layers learn 300 handwritten digits, a fifth of which have a wrong label. L2's "
        "strength is that with the lowest validation loss; the labels of validation and test rows are right. Wrong "
        "labels that are fitted count as a share of all training rows, so that all of them are 20%."
    ),
    setup=Setup(
        data={"name": "digits", "train_size": 300, "label_noise": _NOISE},
        drawn="split_seed",
        regularizers={L2: (3e-3, 1e-2, 2e-2, 4e-2)},
        width=128,
        epochs=50,
        lr=6e-3,
    ),
    judge=_judge,
    counterexample="No label is wrong.",
    counter={"data": {"label_noise": 0.0}},
    source="Zhang et al. (2017), Understanding deep learning requires rethinking generalization",
)
