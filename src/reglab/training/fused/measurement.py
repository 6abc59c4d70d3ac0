"""Measure gap and weight statistics of all members of a pack at once."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.func import vmap

from reglab.data import DataSet
from reglab.measures import MeasureSettings, Side, gap
from reglab.measures.per_example import scale
from reglab.regularizers.select import selected
from reglab.tasks import Scale, Task, task_named
from reglab.training.checkpoint_constants import Unchanged
from reglab.training.fused.evaluation import Evaluator
from reglab.training.fused.pack import Pack
from reglab.training.measured_rows import Rows, gap_rows
from reglab.training.weight_history import WeightHistory

Tensors = dict[str, Tensor]
_PREFIX = "model."


class PackMeasurement:
    """Measures all members of a pack, each on the rows that ``Measurement`` takes of its data.

    Data that the jobs share are kept and used once. Names and meaning of what is measured are
    ``Measurement``'s; each value is ``[members]``, in the order of the pack's rows.

    Args:
        datas: The data set of each job, by the job's number; sets of equal digest are one.
        settings: What is measured.
        device: Which the rows are moved to.
        dtype: Of the model.
        cells: As for ``Evaluator``.

    Attributes:
        sets: Which one each job has, int64 [jobs].
    """

    def __init__(
        self,
        datas: Sequence[DataSet],
        settings: MeasureSettings,
        device: torch.device,
        dtype: torch.dtype,
        cells: int | None = None,
    ) -> None:
        distinct = {data.digest: data for data in reversed(datas)}  # reversed: the first of a digest stays
        numbers = {digest: number for number, digest in enumerate(distinct)}
        self.rows = rows = gap_rows(datas, settings, device, dtype, list(distinct.values()))
        self.settings = settings
        self.sets = torch.tensor([numbers[data.digest] for data in datas], device=device)
        self.history = WeightHistory(settings, stacked=True)
        self._scales = [_scale(part.targets, rows.task) for part in (rows.probe, rows.val)]
        self._task = task = task_named(rows.task)
        self._outputs = any(name not in task.from_statistics for name in (*task.also, *settings.wanted))
        self._statistic_count = task.statistic_count(datas[0].outputs)
        self._evaluate = Evaluator(task, self._outputs, cells)

    def begin(self, pack: Pack, state: Mapping[str, Mapping[str, Tensor]] | None = None) -> None:
        """Remember the initial weights, which distances are measured from; ``state`` is that of a
        resumed run.

        A state holds a row for each row that the pack had when it was taken.
        """
        self._evaluate.forget()
        self.history.begin(_weights(pack, pack.stack.weights), state)

    def state(self) -> dict[str, Tensors]:
        """Return the state that ``begin`` resumes from: stacked weights, by their names in the
        model.
        """
        return {"initial": dict(self.history.initial), "previous": dict(self.history.previous)}

    def member(self, pack: Pack, row: int) -> dict[str, Tensors]:
        """Return the state of ``Measurement`` for the job in ``row``."""
        now, history = _weights(pack, pack.stack.weights), self.history
        same = all(torch.equal(weight[row], now[name][row]) for name, weight in history.previous.items())
        return {
            "initial": Unchanged({name: weight[row].cpu() for name, weight in history.initial.items()}),
            "previous": {} if same else {name: weight[row].cpu() for name, weight in history.previous.items()},
        }

    def keep(self, members: Sequence[int]) -> None:
        """Keep only these members, after the pack was compacted."""
        self.history.keep(members)
        self._evaluate.forget()

    def gap(self, pack: Pack) -> Tensors:
        """Return the audited gaps, their sides and intervals, of the weights that each job is
        judged by.
        """
        weights, sets = pack.evaluation_weights(), self.sets[pack.job_indices]
        rows, metrics = self.rows, {}
        train = self._evaluate(pack, weights, rows.probe.inputs, rows.probe.targets, rows.clean, sets)
        val = self._evaluate(pack, weights, rows.val.inputs, rows.val.targets, None, sets)
        sides = [self._side(number, statistics, pack) for number, statistics in enumerate((train, val))]
        if rows.corrupted is not None:
            metrics = self._memorization(train[: self._statistic_count + 1], rows.corrupted.all(sets))
        return gap(sides[0], sides[1], rows.task, self.settings.level, self.settings.wanted) | metrics

    def _side(self, number: int, measured: Tensor, pack: Pack) -> Side:
        """Return the members' side of the gap, 0 the probe and 1 the validation part, from what was
        measured of it.
        """
        sets, rows = self.sets[pack.job_indices], self.rows
        part, outputs, targets = (rows.probe, rows.val)[number], None, None
        if self._outputs:
            outputs = measured[self._statistic_count + (number == 0 and rows.clean is not None) :].movedim(0, -1)
            outputs = self._evaluate.in_shape(outputs)
            targets = part.targets.all(sets)
        return Side(
            measured[: self._statistic_count],
            _chosen(self._scales[number], sets),
            part.left,
            None if part.weights is None else part.weights.all(sets),
            outputs,
            targets,
            None if rows.units is None else rows.units[pack.job_indices].mT,
        )

    def _memorization(self, statistics: Tensor, corrupted: Tensor) -> Tensors:
        metrics = {"memorization/clean_loss": statistics[-1].mean(-1)}
        if self._task.classes:
            metrics["memorization/fitted"] = (statistics[1].double() * corrupted).sum(-1) / corrupted.sum(-1)
        return metrics

    def weights(self, pack: Pack) -> Tensors:
        """Return the weight statistics; those of averaged weights apart, since averaging un-zeros
        them.
        """
        cocktail = pack.base.cocktail
        weights = _weights(pack, pack.stack.weights if cocktail.averages_apart else pack.evaluation_weights())
        metrics = self.history.statistics(weights)
        if cocktail.averages and cocktail.averages_apart:
            metrics |= self.history.statistics(_weights(pack, pack.evaluation_weights()), averaged=True)
        self.history.remember(weights)
        return metrics


def _scale(targets: Rows, task: Task | str) -> Scale:
    """Return the scale of each set of targets, or the one of all, the sets as the first axis."""
    if targets.per_member:
        return Scale(*vmap(lambda values: tuple(scale(values, task)))(targets.values))
    return Scale(*(field.unsqueeze(0) for field in scale(targets.values, task)))


def _chosen(scales: Scale, sets: Tensor) -> Scale:
    """Return the scale of each member's targets, the members as the second axis."""
    common = len(scales.variance) == 1
    return Scale(*((field if common else field.index_select(0, sets)).movedim(0, 1) for field in scales))


def _weights(pack: Pack, weights: Mapping[str, Tensor]) -> Tensors:
    """Return what ``selected`` calls weights, stacked, by their names in the model."""
    return {name: weights[_PREFIX + name].detach() for name, _ in selected(pack.base.model, "weights")}
