"""A penalty lowers the gap between training and new rows."""

from reglab.api.claims.claim import Claim, Found, Number, Panel, chosen_values, lines
from reglab.api.claims.trainings import Setup, Trainings
from reglab.regularizers import L2

SETUP = Setup(
    data={"name": "mnist1d", "train_size": 400, "val_size": 400, "test_size": 2000},
    drawn="seed",
    regularizers={L2: (3e-3, 1e-2, 2e-2, 4e-2, 8e-2)},
    width=64,
)
UNDERFITTING = {"width": 1}
SIGNALS = "Networks of two hidden layers learn 400 signals of 40 points in ten classes (MNIST-1D)"
LEAST = 0.1  # of a loss, in nats; a predictor that looks at no input has 2.3


def _judge(trainings: Trainings) -> Found:
    test, train = trainings.losses("test"), trainings.losses("train")
    gap = test - train
    chosen = trainings.chosen(trainings.setup.indices(L2))
    plain = tuple(float(row[0]) for row in gap)
    lower = tuple(before - after for before, after in zip(plain, chosen_values(gap, chosen), strict=True))
    better = tuple(float(row[0] - row[index]) for row, index in zip(test, chosen, strict=True))
    return Found(
        (
            Number("gap without a penalty", plain, LEAST),
            Number("how much lower it is with L2", lower, LEAST),
            Number("how much lower the loss on new rows is with L2", better, 0.0),
        ),
        (Panel("Loss", trainings.setup.labels(L2), lines(training=train, new_rows=test)),),
    )


CLAIM = Claim(
    name="gap",
    question="Does a penalty lower the gap between training and new rows?",
    method=(
        f"{SIGNALS}. The gap is the loss (cross-entropy) on 2000 new rows minus that on the training rows. L2's "
        "strength is that with the lowest loss on 400 validation rows. The loss on new rows must fall as well: a model "
        "that learns nothing has no gap either."
    ),
    setup=SETUP,
    judge=_judge,
    counterexample="Both hidden layers have one unit: the model underfits.",
    counter=UNDERFITTING,
    source="Krogh, Hertz (1991), A simple weight decay can improve generalization",
)
