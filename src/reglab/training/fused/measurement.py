"""Measure gap and weight statistics of all members of a pack at once."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.func import vmap

from reglab.data import DataSet
from reglab.measures import MeasureSettings, Side, Task, gap, probe_rows, probe_size, score_name, weight_statistics
from reglab.measures.per_example import Scale, scale
from reglab.regularizers.select import selected
from reglab.training.checkpoint_constants import Unchanged
from reglab.training.fused.evaluation import Evaluator, Rows, rows_of
from reglab.training.fused.pack import Pack

Tensors = dict[str, Tensor]
_PREFIX = "model."


class PackMeasurement:
    """Measures all members of a pack, each on the rows that ``Measurement`` takes of its data.

    Data that the jobs share are kept and used once. Names and meaning of what is measured are
    ``Measurement``'s; each value is ``[members]``, in the order of the pack's rows.

    Args:
        datas: The data set of each job, by the job's number; sets of equal digest are one.

    Attributes:
        sets: Which one each job has, int64 [jobs].
    """

    def __init__(
        self, datas: Sequence[DataSet], settings: MeasureSettings, device: torch.device, dtype: torch.dtype
    ) -> None:
        distinct = {data.digest: data for data in reversed(datas)}  # reversed: the first of a digest stays
        numbers = {digest: number for number, digest in enumerate(distinct)}
        sets = list(distinct.values())
        train, val = [data.train for data in sets], [data.val for data in sets]
        rows = probe_rows(len(train[0]), probe_size(len(train[0]), len(val[0]), settings.probe_rows), seed=0)

        def moved(tensors: Sequence[Tensor]) -> Rows:
            target_dtype = dtype if tensors[0].is_floating_point() else tensors[0].dtype
            return rows_of([values.to(device, target_dtype) for values in tensors])

        self.task, self.settings = sets[0].task, settings
        self.probe = moved([part.inputs[rows] for part in train]), moved([part.targets[rows] for part in train])
        self.val = moved([part.inputs for part in val]), moved([part.targets for part in val])
        self.clean = self.corrupted = None
        if any(bool(part.corrupted.any()) for part in train):
            self.clean = moved([part.clean_targets[rows] for part in train])
            self.corrupted = moved([part.corrupted[rows] for part in train])
        self._left = 1 - len(rows) / len(train[0]), 1.0
        self._scales = [_scale(targets, self.task) for targets in (self.probe[1], self.val[1])]
        self._weights: tuple[Rows | None, Rows | None] = (None, None)
        if any(data.weighted for data in sets):
            self._weights = moved([part.weights[rows] for part in train]), moved([part.weights for part in val])
        units = [data.target_scale for data in datas]
        self._units = (
            torch.stack([each for each in units if each is not None]).to(device, dtype)
            if units[0] is not None
            else None
        )
        self.sets = torch.tensor([numbers[data.digest] for data in datas], device=device)
        self._outputs = self.task != "regression" and any(name != score_name(self.task) for name in settings.wanted)
        self._statistic_count = sets[0].outputs if self.task == "regression" else 2
        self._evaluate = Evaluator(self.task, self._outputs)
        self.initial: Tensors = {}
        self.previous: Tensors = {}

    def begin(self, pack: Pack, state: Mapping[str, Mapping[str, Tensor]] | None = None) -> None:
        """Remember the initial weights, which distances are measured from; ``state`` is that of a
        resumed run.

        A state holds a row for each row that the pack had when it was taken.
        """
        self._evaluate.forget()
        self.initial = self.previous = _copies(pack)
        if state is not None:
            device = pack.stack.device
            self.initial, self.previous = (
                {name: weight.to(device, copy=True) for name, weight in state[when].items()}
                for when in ("initial", "previous")
            )

    def state(self) -> dict[str, Tensors]:
        """Return the state that ``begin`` resumes from: stacked weights, by their names in the
        model.
        """
        return {"initial": dict(self.initial), "previous": dict(self.previous)}

    def member(self, pack: Pack, row: int) -> dict[str, Tensors]:
        """Return the state of ``Measurement`` for the job in ``row``."""
        now = _weights(pack, pack.stack.weights)
        same = all(torch.equal(weight[row], now[name][row]) for name, weight in self.previous.items())
        return {
            "initial": Unchanged({name: weight[row].cpu() for name, weight in self.initial.items()}),
            "previous": {} if same else {name: weight[row].cpu() for name, weight in self.previous.items()},
        }

    def keep(self, rows: Sequence[int]) -> None:
        """Keep only the members in these rows of the stack, after the pack was compacted."""
        index = torch.tensor(list(rows), device=self.sets.device)
        self.initial, self.previous = (
            {name: weight.index_select(0, index) for name, weight in weights.items()}
            for weights in (self.initial, self.previous)
        )
        self._evaluate.forget()

    def gap(self, pack: Pack) -> Tensors:
        """Return the audited gaps, their sides and intervals, of the weights that each job is
        judged by.
        """
        weights, sets = pack.evaluation_weights(), self.sets[pack.job_indices]
        train = self._evaluate(pack, weights, *self.probe, self.clean, sets)
        val = self._evaluate(pack, weights, *self.val, None, sets)
        metrics = {}
        sides = [self._side(number, statistics, pack) for number, statistics in enumerate((train, val))]
        if self.corrupted is not None:
            metrics = self._memorization(train[: self._statistic_count + 1], self.corrupted.all(sets))
        return gap(sides[0], sides[1], self.task, self.settings.level, self.settings.wanted) | metrics

    def _side(self, number: int, measured: Tensor, pack: Pack) -> Side:
        """Return the members' side of the gap, 0 the probe and 1 the validation part, from what was
        measured of it.
        """
        sets = self.sets[pack.job_indices]
        outputs = targets = None
        if self._outputs:
            outputs = measured[self._statistic_count + (number == 0 and self.corrupted is not None) :].movedim(0, -1)
            outputs = outputs.squeeze(-1) if self.task == "binary" else outputs
            targets = (self.probe, self.val)[number][1].all(sets)
        rows = self._weights[number]
        return Side(
            measured[: self._statistic_count],
            _chosen(self._scales[number], sets),
            self._left[number],
            None if rows is None else rows.all(sets),
            outputs,
            targets,
            None if self._units is None else self._units[pack.job_indices].mT,
        )

    def _memorization(self, statistics: Tensor, corrupted: Tensor) -> Tensors:
        metrics = {"memorization/clean_loss": statistics[-1].mean(-1)}
        if self.task in ("classification", "binary"):
            metrics["memorization/fitted"] = (statistics[1].double() * corrupted).sum(-1) / corrupted.sum(-1)
        return metrics

    def weights(self, pack: Pack) -> Tensors:
        """Return the weight statistics; those of averaged weights apart, since averaging un-zeros
        them.
        """
        now = _weights(pack, pack.stack.weights)
        metrics = self._statistics(now, self.settings.per_layer)
        if pack.base.cocktail.averages:
            averaged = self._statistics(_weights(pack, pack.evaluation_weights()), per_layer=False)
            metrics |= {key.replace("/all/", "/averaged/"): value for key, value in averaged.items()}
        if self.previous is self.initial:
            self.previous = {name: weight.clone() for name, weight in now.items()}
        else:  # in place: a pack's weights are large, and one copy less is held meanwhile
            for name, weight in now.items():
                self.previous[name].copy_(weight)
        return metrics

    def _statistics(self, weights: Tensors, per_layer: bool) -> Tensors:
        near_zero = self.settings.near_zero
        return weight_statistics(weights, self.initial, self.previous, near_zero, per_layer, stacked=True)


def _scale(targets: Rows, task: Task) -> Scale:
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


def _copies(pack: Pack) -> Tensors:
    return {name: weight.clone() for name, weight in _weights(pack, pack.stack.weights).items()}
