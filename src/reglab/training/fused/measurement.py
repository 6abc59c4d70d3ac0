"""Measure gap and weight statistics of all members of a pack at once."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.func import vmap

from reglab.data import DataSet
from reglab.measures import Measure, MeasureSettings, Side
from reglab.measures.per_example import scale
from reglab.tasks import Scale, Task, task_named
from reglab.training.checkpoint_constants import Unchanged
from reglab.training.fused.evaluation import Evaluator
from reglab.training.fused.measured_pack import MeasuredPack, weights_of
from reglab.training.fused.pack import Pack
from reglab.training.fused.stack import Stack
from reglab.training.measured_rows import Rows, gap_rows
from reglab.training.measuring import due, each_of, joint, states_of, taken
from reglab.training.weight_history import WeightHistory

Tensors = dict[str, Tensor]


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
        self.history = WeightHistory(stacked=True)
        self.states: dict[str, Tensors] = {}
        self._scales = [_scale(part.targets, rows.task) for part in (rows.probe, rows.val)]
        self._task = task = task_named(rows.task)
        self._outputs = any(name not in task.from_statistics for name in (*task.also, *settings.wanted))
        self._outputs |= any("outputs" in each.needs for each in settings.named.values())
        self._statistic_count = task.statistic_count(datas[0].outputs)
        self._evaluate = Evaluator(task, self._outputs, cells)

    def begin(self, pack: Pack, state: Mapping[str, Mapping[str, Tensor]] | None = None) -> None:
        """Remember the initial weights, which distances are measured from; ``state`` is that of a
        resumed run.

        A state holds a row for each row that the pack had when it was taken.
        """
        self._evaluate.forget()
        self.states = states_of(state or {}, pack.stack.device, lambda value: value)
        self.history.begin(weights_of(pack, pack.stack.weights), state)

    def state(self) -> dict[str, Tensors]:
        """Return the state that ``begin`` resumes from: stacked weights, by their names in the
        model.
        """
        return {
            "initial": dict(self.history.initial), "previous": dict(self.history.previous), **joint(self.states),
        }  # fmt: skip

    def member(self, pack: Pack, row: int) -> dict[str, Tensors]:
        """Return the state of ``Measurement`` for the job in ``row``."""
        now, history = weights_of(pack, pack.stack.weights), self.history
        same = all(torch.equal(weight[row], now[name][row]) for name, weight in history.previous.items())
        return {
            "initial": Unchanged({name: weight[row].cpu() for name, weight in history.initial.items()}),
            "previous": {} if same else {name: weight[row].cpu() for name, weight in history.previous.items()},
            **joint(each_of(self.states, lambda value: value[row].cpu())),
        }

    def keep(self, members: Sequence[int]) -> None:
        """Keep only these members, after the pack was compacted."""
        self.history.keep(members)
        self.states = each_of(self.states, lambda value: value[list(members)])
        self._evaluate.forget()

    def gap(self, pack: Pack, epoch: int = 1, last: bool = True) -> Tensors:
        """Return what the measures of examples say of the weights that each job is judged by, first
        the audited gaps.

        Args:
            pack: To be measured.
            epoch: Counted from 1.
            last: It is the last one, as far as is known.
        """
        return self._taken(pack, due(self.settings.by_epoch, "examples", epoch, last), epoch, last)

    def weights(self, pack: Pack, epoch: int = 1, last: bool = True) -> Tensors:
        """Return what all other measures say, first the weight statistics.

        Args:
            pack: To be measured.
            epoch: Counted from 1.
            last: It is the last one, as far as is known.
        """
        metrics = self._taken(pack, due(self.settings.by_epoch, "others", epoch, last), epoch, last)
        apart = pack.base.cocktail.averages_apart
        self.history.remember(weights_of(pack, pack.stack.weights if apart else pack.evaluation_weights()))
        return metrics

    def _taken(self, pack: Pack, measures: Mapping[str, Measure], epoch: int, last: bool) -> Tensors:
        return taken(MeasuredPack(self, pack, pack.stack, pack.job_indices, epoch, last), measures, self.states)

    def at_end(self, pack: Pack, stacked: Stack, job_indices: Sequence[int]) -> Tensors:
        """Return what the measures say that are taken once, ``[members]`` by name.

        Args:
            pack: Of the members.
            stacked: Their states, which their runs stand for.
            job_indices: Of the members.
        """
        return taken(MeasuredPack(self, pack, stacked, job_indices, 1, True), self.settings.at_end, {})

    def evaluated(self, pack: Pack, weights: Tensors, sets: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the evaluator says of the probe and of the validation rows.

        Args:
            pack: Of the members.
            weights: That they are judged by.
            sets: Which data set each member has.
        """
        rows = self.rows
        train = self._evaluate(pack, weights, rows.probe.inputs, rows.probe.targets, rows.clean, sets)
        return train, self._evaluate(pack, weights, rows.val.inputs, rows.val.targets, None, sets)

    def side(self, number: int, measured: Tensor, job_indices: Sequence[int]) -> Side:
        """Return the members' side of the gap, from what was measured of it.

        Args:
            number: 0 of the probe, 1 of the validation part.
            measured: What ``evaluated`` returned of it.
            job_indices: Of the members.
        """
        members = list(job_indices)
        sets, rows = self.sets[members], self.rows
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
            None if rows.units is None else rows.units[members].mT,
        )

    def clean(self, measured: Tensor, sets: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return the losses of the probe without its label noise, and which rows that changed.

        Args:
            measured: What ``evaluated`` returned of the probe.
            sets: Which data set each member has.
        """
        if self.rows.corrupted is None:
            return None
        return measured[self._statistic_count], self.rows.corrupted.all(sets)


def _scale(targets: Rows, task: Task | str) -> Scale:
    """Return the scale of each set of targets, or the one of all, the sets as the first axis."""
    if targets.per_member:
        return Scale(*vmap(lambda values: tuple(scale(values, task)))(targets.values))
    return Scale(*(field.unsqueeze(0) for field in scale(targets.values, task)))


def _chosen(scales: Scale, sets: Tensor) -> Scale:
    """Return the scale of each member's targets, the members as the second axis."""
    common = len(scales.variance) == 1
    return Scale(*((field if common else field.index_select(0, sets)).movedim(0, 1) for field in scales))
