"""Accuracy, loss and their gaps of each class, with intervals."""

from torch import Tensor

from reglab.core.errors import UserError
from reglab.measures import scores as functions
from reglab.measures.intervals import Estimated, difference, masked_mean_interval, share_interval
from reglab.measures.measure import Measure, Measured, Need, Part
from reglab.measures.per_example import losses_of
from reglab.tasks import Answers, Task

MOST = 50  # classes, each of which has twelve numbers: two sides, gap and ends


class ByClass(Measure):
    """The gap of each class: which ones are learnt, and which are memorized.

    ``by_class/<class>/train_accuracy``, ``val_accuracy`` and ``gap_accuracy`` (train minus val) and
    the same of ``loss`` (val minus train), over the rows of that target; ``_low`` and ``_high`` of
    ``val_accuracy``, ``gap_accuracy`` and ``gap_loss``. Classes are numbered as targets are, and NaN
    where a part has no row of one. The accuracy of a class is its recall.

    Intervals are those of ``gap``, within the class: Wilson's for the accuracy, Hall's cubic t for
    the loss, which has none where no validation row of the class is decided wrongly. Of 20 classes
    one interval of 95% is expected to miss: the worst class of many looks worse than it is.

    Args:
        every: See ``Measure``.
    """

    needs = frozenset[Need]({"examples", "outputs"})
    charts = ("by_class/*/val_accuracy",)

    def check(self, task: Task) -> None:
        if not task.classes:
            raise UserError(
                f"the task {task.name} has no classes: leave by_class out of measure, or choose "
                "data.task=classification, binary or ordinal"
            )
        if not task.per_example:
            raise UserError(
                "by_class needs a loss of each example, which the loss of this task has not: leave it out of measure"
            )

    def measure(self, of: Measured, state: dict[str, Tensor]) -> dict[str, Tensor]:
        left = of.side("train").left
        train, val = (_by_column(of, part) for part in ("train", "val"))
        metrics: dict[str, Tensor] = {}
        for name, lower in (("accuracy", False), ("loss", True)):
            fitted, new = train[name].of_a_part(left), val[name]
            first, second = (new, fitted) if lower else (fitted, new)
            low, high = difference(first, second)
            found = {f"train_{name}": fitted.value, f"val_{name}": new.value, f"gap_{name}": first.value - second.value}
            found |= {f"gap_{name}_low": low, f"gap_{name}_high": high}
            if name == "accuracy":
                found |= {"val_accuracy_low": new.low, "val_accuracy_high": new.high}
            for number in range(new.value.shape[-1]):
                metrics |= {f"by_class/{number}/{key}": each[..., number] for key, each in found.items()}
        return metrics


def _by_column(of: Measured, part: Part) -> dict[str, Estimated]:
    """Return accuracy and loss of each class, ``[members, classes]``, as estimates for new rows."""
    side = of.side(part)
    assert side.outputs is not None
    given = of.task.answers(side.outputs, of.targets(part))
    answers = Answers(*(each.double() for each in functions.two_sided(given, of.task)))
    if not of.task.exclusive:  # class 1 comes first
        answers = Answers(*(each.flip(-2) for each in answers))
    classes = answers.wanted.shape[-2]
    if classes > MOST:
        raise UserError(
            f"measure=by_class records numbers of each class, and {classes} classes are more than {MOST}: leave it out "
            "of measure; measure.scores=[balanced_accuracy] has the mean over classes"
        )
    found = functions.recall(answers)
    accuracy = share_interval(found.value, found.influence, of.level, found.kish)
    losses = losses_of(side.statistics, of.task).double().unsqueeze(-2).expand(answers.wanted.shape)
    loss = masked_mean_interval(losses, answers.wanted == 1, of.level)
    if part == "val":
        loss = loss.unless((answers.wanted * (1 - answers.predicted)).sum(-1) == 0)
    return {"accuracy": accuracy, "loss": loss}
