"""Measure after an epoch: audited gap, weight statistics, memorized label noise."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from reglab.distributed.collectives import evaluate_on_all_ranks
from reglab.distributed.parameters import LocalParameters, as_local_parameters
from reglab.measures import Evaluation, MeasureSettings, Side, evaluate, example_losses, gap, side
from reglab.measures.evaluate import evaluation_mode
from reglab.regularizers import Cocktail
from reglab.regularizers.select import selected
from reglab.tasks import task_named
from reglab.training.checkpoint_constants import Unchanged
from reglab.training.measured_rows import GapRows, GapSide, Rows
from reglab.training.weight_history import WeightHistory


class Measurement:
    """Measures one model repeatedly on a fixed probe of the training part and on the validation
    part.

    Both sides go through one function, in evaluation mode, with the same weights, on the targets as
    they were trained on but neither mixed nor smoothed.

    Args:
        rows: Of both sides, on the model's device; None where there is no gap to measure.
        settings: What is measured.
        ranks: How many processes share the rows.

    Attributes:
        evaluations: Of the probe and of the validation rows, when the gap was last measured.
        history: The weights that distances and updates are measured from.
    """

    def __init__(self, rows: GapRows | None, settings: MeasureSettings, ranks: int = 1) -> None:
        self.rows = rows
        self.settings = settings
        self.ranks = ranks
        self.history = WeightHistory(settings)
        self.evaluations: tuple[Evaluation, Evaluation] | None = None

    def begin(
        self, model: nn.Module | LocalParameters, state: Mapping[str, Mapping[str, Tensor]] | None = None
    ) -> None:
        """Remember the initial weights, which distances are measured from.

        Args:
            model: To be measured.
            state: Of a resumed run, with whole tensors.
        """
        parameters = as_local_parameters(model)
        if state is not None:
            state = {
                when: {name: parameters.shard_of(name, weight) for name, weight in state[when].items()}
                for when in ("initial", "previous")
            }
        self.history.begin(_weights(parameters), state)

    def state(self, model: nn.Module | LocalParameters) -> dict[str, dict[str, Tensor]]:
        """Return the state that ``begin`` resumes from, with whole tensors.

        A collective where the model is sharded.

        ``previous`` is empty where those are the weights as they are: after an epoch that was
        measured.
        """
        parameters, history = as_local_parameters(model), self.history
        initial, previous = (
            {name: parameters.for_checkpoint(name, weight) for name, weight in weights.items()}
            for weights in (history.initial, {} if self._is_measured(parameters) else history.previous)
        )
        return {"initial": Unchanged(initial), "previous": previous}

    def _is_measured(self, parameters: LocalParameters) -> bool:
        """Return whether the weights are those that were measured last; no rank knows that of a
        sharded whole.
        """
        now = _weights(parameters)
        return parameters.shards is None and all(
            torch.equal(weight, now[name]) for name, weight in self.history.previous.items()
        )

    def gap(self, model: nn.Module | LocalParameters, cocktail: Cocktail) -> dict[str, Tensor]:
        """Return the audited gap, its sides and its intervals, of the weights that the run is
        judged by; nothing where there is none to measure.

        Where there are several ranks, each computes a part of the rows, and all have every answer.
        """
        if self.rows is None:
            return {}
        rows, parameters = self.rows, as_local_parameters(model)
        parameters.reshard()
        with cocktail.evaluating(parameters.hook_target):
            with evaluation_mode(parameters.model):  # once for both sides
                train, val = (self._evaluate(parameters.model, part) for part in (rows.probe, rows.val))
            parameters.reshard()
        self.evaluations = train, val
        fitted, new = self._side(train, rows.probe), self._side(val, rows.val)
        metrics = gap(fitted, new, rows.task, self.settings.level, self.settings.wanted)
        return metrics | self._memorization(train)

    def _evaluate(self, model: nn.Module, part: GapSide) -> Evaluation:
        assert self.rows is not None
        on_ranks = evaluate_on_all_ranks if self.ranks > 1 else evaluate
        inputs = part.inputs.values if isinstance(part.inputs, Rows) else part.inputs
        return on_ranks(model, inputs, part.targets.values, self.rows.task)

    def _side(self, evaluation: Evaluation, part: GapSide) -> Side:
        assert self.rows is not None
        weights = None if part.weights is None else part.weights.values
        units = None if self.rows.units is None else self.rows.units[0]
        return side(evaluation, self.rows.task, part.left, weights, units)

    def _memorization(self, train: Evaluation) -> dict[str, Tensor]:
        """Return how far label noise was learnt: the corrupted rows fitted, and the training loss
        without the noise.
        """
        assert self.rows is not None
        if self.rows.clean is None or self.rows.corrupted is None:
            return {}
        task, clean, corrupted = task_named(self.rows.task), self.rows.clean.values, self.rows.corrupted.values
        metrics = {"memorization/clean_loss": example_losses(train.outputs, clean, task).mean()}
        if task.classes:
            fitted = task.decide(task.align(train.outputs, train.targets)) == train.targets
            metrics["memorization/fitted"] = fitted[corrupted].double().mean()
        return metrics

    def weights(self, model: nn.Module | LocalParameters, cocktail: Cocktail) -> dict[str, Tensor]:
        """Return the weight statistics; those of averaged weights apart, since averaging un-zeros
        them.
        """
        parameters = as_local_parameters(model)
        shards = parameters.shards
        if not cocktail.averages_apart:
            with cocktail.evaluating(parameters.hook_target):
                weights = {name: weight.detach().clone() for name, weight in _weights(parameters).items()}
        else:
            weights = _weights(parameters)
        metrics = self.history.statistics(weights, shards)
        if cocktail.averages and cocktail.averages_apart:
            with cocktail.evaluating(parameters.hook_target):
                metrics |= self.history.statistics(_weights(parameters), shards, averaged=True)
        self.history.remember(weights)
        return metrics


def _weights(parameters: LocalParameters) -> dict[str, Tensor]:
    return dict(selected(parameters.hook_target, "weights"))
