"""Measure a model that trains alone, after its epochs and at its end."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from reglab.distributed.collectives import evaluate_on_all_ranks
from reglab.distributed.parameters import LocalParameters, as_local_parameters
from reglab.measures import Evaluation, Measure, MeasureSettings, evaluate
from reglab.measures.evaluate import evaluation_mode
from reglab.regularizers import Cocktail
from reglab.training.checkpoint_constants import Unchanged
from reglab.training.measured_model import MeasuredModel, weights_of
from reglab.training.measured_rows import GapRows, GapSide, Rows
from reglab.training.measuring import Kind, due, each_of, joint, states_of, taken
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
        states: What measures keep between calls, with the members' axis, by measure.
        evaluations: Of the probe and of the validation rows, when the gap was last measured.
        history: The weights that distances and updates are measured from.
    """

    def __init__(self, rows: GapRows | None, settings: MeasureSettings, ranks: int = 1) -> None:
        self.rows = rows
        self.settings = settings
        self.ranks = ranks
        self.history = WeightHistory()
        self.states: dict[str, dict[str, Tensor]] = {}
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
            device = next(iter(parameters.weights.values())).device
            self.states = states_of(state, device, lambda value: value.unsqueeze(0))
            state = {
                when: {name: parameters.shard_of(name, weight) for name, weight in state[when].items()}
                for when in ("initial", "previous")
            }
        self.history.begin(weights_of(parameters), state)

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
        return {
            "initial": Unchanged(initial),
            "previous": previous,
            **self.kept(),
        }

    def kept(self) -> dict[str, dict[str, Tensor]]:
        """Return what measures keep between calls, as it stands in a checkpoint."""
        return joint(each_of(self.states, lambda value: value[0].cpu()))

    def _is_measured(self, parameters: LocalParameters) -> bool:
        """Return whether the weights are those that were measured last; no rank knows that of a
        sharded whole.
        """
        now = weights_of(parameters)
        return parameters.shards is None and all(
            torch.equal(weight, now[name]) for name, weight in self.history.previous.items()
        )

    def gap(
        self, model: nn.Module | LocalParameters, cocktail: Cocktail, epoch: int = 1, last: bool = True
    ) -> dict[str, Tensor]:
        """Return what the measures of examples say of the weights that the run is judged by, first
        the audited gap; nothing where there is none to measure.

        Where there are several ranks, each computes a part of the rows, and all have every answer.

        Args:
            model: To be measured.
            cocktail: Which may keep averaged weights.
            epoch: Counted from 1.
            last: It is the last one, as far as is known.
        """
        if self.rows is None:
            return {}
        self.evaluations = None
        return self._measured("examples", as_local_parameters(model), cocktail, epoch, last)

    def weights(
        self, model: nn.Module | LocalParameters, cocktail: Cocktail, epoch: int = 1, last: bool = True
    ) -> dict[str, Tensor]:
        """Return what all other measures say, first the weight statistics.

        Args:
            model: To be measured.
            cocktail: Which may keep averaged weights.
            epoch: Counted from 1.
            last: It is the last one, as far as is known.
        """
        parameters = as_local_parameters(model)
        view = MeasuredModel(self, parameters, cocktail, epoch, last)
        metrics = self._taken(view, due(self.settings.by_epoch, "others", epoch, last))
        self.history.remember({name: weight[0] for name, weight in view.weights.items()})
        return metrics

    def at_end(self, model: nn.Module | LocalParameters, cocktail: Cocktail) -> dict[str, Tensor]:
        """Return what the measures say that are taken once, of the weights that the run stands for.

        Args:
            model: With these weights.
            cocktail: Which may keep averaged weights.
        """
        if not self.settings.at_end:
            return {}
        return self._taken(MeasuredModel(self, as_local_parameters(model), cocktail, 1, True), self.settings.at_end)

    def _measured(
        self, kind: Kind, parameters: LocalParameters, cocktail: Cocktail, epoch: int, last: bool
    ) -> dict[str, Tensor]:
        view = MeasuredModel(self, parameters, cocktail, epoch, last)
        return self._taken(view, due(self.settings.by_epoch, kind, epoch, last))

    def _taken(self, view: MeasuredModel, measures: Mapping[str, Measure]) -> dict[str, Tensor]:
        return {key: value[0] for key, value in taken(view, measures, self.states).items()}

    def evaluated(self, parameters: LocalParameters, cocktail: Cocktail) -> tuple[Evaluation, Evaluation]:
        """Return the evaluations of the probe and of the validation rows, made once a measurement.

        Args:
            parameters: Of the model.
            cocktail: Which may keep averaged weights.
        """
        if self.evaluations is None:
            assert self.rows is not None
            parameters.reshard()
            with cocktail.evaluating(parameters.hook_target):
                with evaluation_mode(parameters.model):  # once for both sides
                    train, val = (self._evaluate(parameters.model, part) for part in (self.rows.probe, self.rows.val))
                parameters.reshard()
            self.evaluations = train, val
        return self.evaluations

    def _evaluate(self, model: nn.Module, part: GapSide) -> Evaluation:
        assert self.rows is not None
        on_ranks = evaluate_on_all_ranks if self.ranks > 1 else evaluate
        inputs = part.inputs.values if isinstance(part.inputs, Rows) else part.inputs
        return on_ranks(model, inputs, part.targets.values, self.rows.task)
