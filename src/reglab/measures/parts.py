"""Several targets: what was measured of each."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from reglab.measures.own_scores import AnyScore
from reglab.measures.sides import Side
from reglab.tasks import Scale, Task
from reglab.tasks.multi import Multi


def sides_of_targets(measured: Side, task: Multi) -> Iterator[tuple[str, Task, Side]]:
    """Yield each target's name and task, and what was measured of it alone.

    Args:
        measured: All targets.
        task: Of them.
    """
    aligned: list[tuple[Tensor | None, Tensor | None]] = [(None, None)] * len(task.targets)
    if measured.outputs is not None and measured.targets is not None:
        aligned = [(outputs, numbers) for _, outputs, numbers in task.parts(measured.outputs, measured.targets)]
    first = column = 0
    for number, (target, (outputs, numbers)) in enumerate(zip(task.targets, aligned, strict=True)):
        count = target.task.statistic_count(target.width)
        scales = 0 if target.task.decides else count
        yield (
            target.name,
            target.task,
            measured._replace(
                statistics=measured.statistics[first : first + count],
                scale=Scale(*(field[column : column + scales] for field in measured.scale)),
                outputs=outputs,
                targets=numbers,
                units=None if measured.units is None else measured.units[number : number + 1],
            ),
        )
        first, column = first + count, column + scales


def scores_of_target(name: str, scores: Sequence[AnyScore]) -> list[AnyScore]:
    """Return the scores that are wanted of a target, without its name."""
    prefix = f"{name}/"
    return [score.removeprefix(prefix) for score in scores if isinstance(score, str) and score.startswith(prefix)]
