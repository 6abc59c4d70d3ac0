"""The strength that was tuned on validation rows generalizes best."""

from reglab.api.claims.claim import Claim, Found, Number, Panel, chosen_values, lines
from reglab.api.claims.gap import LEAST, SETUP, SIGNALS, UNDERFITTING
from reglab.api.claims.trainings import Trainings
from reglab.regularizers import L2


def _judge(trainings: Trainings) -> Found:
    fresh, validation = trainings.losses("test"), trainings.losses("val")
    chosen = trainings.chosen(list(range(trainings.shape[1])))
    tuned = chosen_values(fresh, chosen)
    better = tuple(row[0] - loss for row, loss in zip(fresh, tuned, strict=True))
    behind = tuple(loss - min(row) for row, loss in zip(fresh, tuned, strict=True))
    return Found(
        (
            Number(
                "how much lower the loss on new rows is at the tuned strength than without a penalty", better, LEAST
            ),
            Number("how much higher it is there than at the best strength", behind, LEAST, at_most=True),
        ),
        (
            Panel(
                "Loss",
                trainings.setup.labels(L2),
                lines(validation_rows=validation, new_rows=fresh),
            ),
        ),
    )


CLAIM = Claim(
    name="choice",
    question="Does the strength that was tuned on validation rows generalize best?",
    method=(
        f"{SIGNALS}. The strength, or none, is chosen by the loss on 400 validation rows, and judged on 2000 new draws "
        "of the generator, which nothing was chosen by. The best strength is the best one in hindsight, on these draws."
    ),
    setup=SETUP,
    judge=_judge,
    counterexample="Both hidden layers have one unit: the model underfits, and there is nothing to tune.",
    counter=UNDERFITTING,
    source="Stone (1974), Cross-validatory choice and assessment of statistical predictions",
)
