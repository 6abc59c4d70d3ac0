"""Measurement settings (``conf/measure``)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from reglab.core.errors import UserError, nearest
from reglab.core.metric_direction import CHARTS, LOWER, SCORES, WEIGHTED
from reglab.measures.defaults import Gap, Memorization, Weights, default_measures
from reglab.measures.measure import Measure, Need
from reglab.measures.own_scores import AnyScore, OwnScore, own_score
from reglab.tasks import Task, task_named, task_names


@dataclass(frozen=True)
class MeasureSettings:
    """What is measured, how often and how finely; each option is explained in
    ``conf/train.yaml``.

    Args:
        measures: What is measured, by name; None: ``reglab.measures.default_measures()``. The gap,
            by which a run is judged, is always among them.

    Raises:
        UserError: For a value outside its range.
    """

    every: int = 1
    probe_rows: int | None = None
    level: float = 0.95
    near_zero: float = 1e-3
    per_layer: bool = True
    test: bool = False
    monitor: str = "val/loss"
    scores: Sequence[AnyScore] = ()
    measures: Mapping[str, Measure] | Sequence[tuple[str, Measure]] | None = None

    def __post_init__(self) -> None:
        _integer("every", self.every, 1)
        if self.probe_rows is not None:
            _integer("probe_rows", self.probe_rows, 2)
        if not (_is_number(self.level) and 0 < self.level < 1):
            raise UserError(f"measure.level={self.level} must be between 0 and 1, such as 0.95")
        if not (_is_number(self.near_zero) and 0 <= self.near_zero < 1):
            raise UserError(
                f"measure.near_zero={self.near_zero} must be >= 0 and below 1, a share of the largest weight"
            )
        for name in ("per_layer", "test"):
            if not isinstance(value := getattr(self, name), bool):
                raise UserError(f"measure.{name}={value} must be true or false")
        if not str(self.monitor).startswith("val/"):
            raise UserError(
                f"measure.monitor={self.monitor} must be measured on the validation part, such as val/loss, "
                "val/accuracy or val/r2"
            )
        if isinstance(self.scores, (str, Mapping)) or not isinstance(self.scores, Iterable):
            raise UserError(f"measure.scores={self.scores} must be a list of scores, such as [auroc,f1]")
        known = (str, OwnScore)
        given = [each if isinstance(each, known) else own_score(each) for each in self.scores]
        object.__setattr__(self, "scores", tuple(given))
        for score in given:
            if isinstance(score, str) and score.rpartition("/")[2] not in SCORES and not score.endswith("/loss"):
                raise UserError(f"measure.scores={score} is no score; {nearest(score, SCORES)}")

        object.__setattr__(self, "measures", _taken(self.measures, self.every))

    @property
    def named(self) -> dict[str, Measure]:
        """The measures by name."""
        return dict(self.measures or ())

    @property
    def by_epoch(self) -> dict[str, Measure]:
        """The measures that are taken after epochs, the last one included."""
        return {name: each for name, each in self.named.items() if each.every != "end"}

    @property
    def at_end(self) -> dict[str, Measure]:
        """The measures that are taken once, of the weights that the run stands for."""
        return {name: each for name, each in self.named.items() if each.every == "end"}

    def check_needs(self, missing: Mapping[Need, str]) -> None:
        """Raise UserError where a measure needs what there is not.

        Args:
            missing: What there is not, and why, with the way out.
        """
        for name, each in self.named.items():
            for need in sorted(each.needs & missing.keys()):
                raise UserError(f"measure={name} needs {_NEEDS[need]}, and {missing[need]}; or leave {name} out")

    @property
    def wanted(self) -> tuple[AnyScore, ...]:
        """The scores to measure beside the task's own: those asked for, and the one that is
        monitored.
        """
        watched = self.monitor.removeprefix("val/")
        return tuple(dict.fromkeys([*self.scores, *([watched] if watched.rpartition("/")[2] in SCORES else [])]))

    @property
    def tags(self) -> dict[str, str]:
        """What a run's tags say: the user's own scores of which a lower value is better, and what a
        report draws of measures that not every run takes.
        """
        charts = [name for each in self.named.values() if not isinstance(each, _DRAWN) for name in each.charts]
        return ({LOWER: ",".join(self.lower)} if self.lower else {}) | ({CHARTS: ",".join(charts)} if charts else {})

    @property
    def lower(self) -> tuple[str, ...]:
        """The user's own scores of which a lower value is better."""
        return tuple(score.name for score in self.scores if isinstance(score, OwnScore) and not score.higher)

    def check(self, task: Task | str, weighted: bool) -> None:
        """Raise UserError if a score or the monitor is not measured in a ``task``.

        Args:
            weighted: Rows have weights.
        """
        task = task_named(task)
        own = [f"val/{score}" for score in self.scores if isinstance(score, OwnScore)]
        valid = [*monitored(task, weighted), *own]
        for name in map(str, self.scores):
            of_targets = [each for each in task.scores if each.endswith(f"/{name}")]
            if f"val/{name}" not in valid and of_targets:
                raise UserError(f"measure.scores={name}: say of which target: {', '.join(of_targets)}")
            if f"val/{name}" not in valid:
                tasks = ", ".join(each for each in task_names() if name in task_named(each).scores)
                raise UserError(
                    f"measure.scores={name} is a score of {tasks}, and the task is {task.name}: leave it out"
                )
        for name, each in self.named.items():
            try:
                each.check(task)
            except UserError as error:
                raise UserError(f"measure={name}: {error}") from None
        if self.monitor not in valid:
            raise UserError(
                f"measure.monitor={self.monitor} is not measured in a {task.name} task"
                f"{'' if weighted else ' whose rows all count alike'}; {nearest(self.monitor, valid)}"
            )


_DRAWN = (Gap, Weights, Memorization)  # by every report
_NEEDS: dict[Need, str] = {
    "examples": "a loss of each row",
    "outputs": "the outputs and targets of each row",
    "weights": "weights",
    "whole weights": "whole weights",
    "function": "the loss as a function of all weights",
}


def _taken(
    given: Mapping[str, Measure] | Sequence[tuple[str, Measure]] | None, every: int
) -> tuple[tuple[str, Measure], ...]:
    """Return the measures with their names; the default ones for None."""
    measures = default_measures() if given is None else given
    if isinstance(measures, tuple):  # as it is kept here
        measures = dict(measures)
    if not isinstance(measures, Mapping) or not all(isinstance(each, Measure) for each in measures.values()):
        raise UserError(f"measures={measures} must be a mapping of names to reglab.measures.Measure")
    if not any(isinstance(each, Gap) for each in measures.values()):
        names = ",".join(["gap", *measures])
        raise UserError(
            f"measure=[{','.join(measures)}] leaves out the gap, which checkpoints, early stopping and the choice of a "
            f"sweep go by: measure=[{names}], perhaps with a larger measure.every"
        )
    for name, each in measures.items():
        if isinstance(each.every, int) and each.every % every:
            raise UserError(
                f"measure.{name}.every={each.every} must be a multiple of measure.every={every}, or end: no other "
                "epoch is measured"
            )
    return tuple(measures.items())


def monitored(task: Task | str, weighted: bool) -> list[str]:
    """Return the metrics that ``measure.monitor`` may name.

    Args:
        task: The task of the data set.
        weighted: Whether its rows have weights that differ.
    """
    plain = ["loss", *task_named(task).scores]
    also = [WEIGHTED + name for name in ("loss", "accuracy", "ndcg") if name in plain] if weighted else []
    return [f"val/{name}" for name in (*plain, *also)]


def _integer(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(f"measure.{name}={value} must be an integer >= {least}")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
