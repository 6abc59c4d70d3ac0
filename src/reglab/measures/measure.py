"""The contract of a measure: numbers of a model that are recorded while it trains."""

from collections.abc import Mapping
from typing import ClassVar, Literal, Protocol

from torch import Tensor, nn

from reglab.measures.own_scores import AnyScore
from reglab.measures.sides import Side
from reglab.measures.weights import Whole
from reglab.tasks import Task

Part = Literal["train", "val"]
"""``train`` is the probe: the training rows that gaps are measured on."""
Need = Literal["examples", "outputs", "weights", "whole weights", "function"]


class Measured(Protocol):
    """What a measure sees after an epoch: a model, or all members of a pack at once.

    Tensors have the members as their first axis, one where a model trains alone, so that a measure is
    written once. ``rows`` are int64 numbers ``[rows]`` within a part; None stands for all.

    Attributes:
        epoch: Counted from 1; 0 is the untrained model.
        last: No further epoch is measured, as far as is known.
        members: How many there are.
        task: Of the data.
        level: Of intervals, ``measure.level``.
        near_zero: ``measure.near_zero``.
        per_layer: ``measure.per_layer``.
        scores: ``measure.scores`` and the one that is monitored.
        model: Its modules, their names and shapes; the tensors in it are no member's.
    """

    @property
    def epoch(self) -> int: ...
    @property
    def last(self) -> bool: ...
    @property
    def members(self) -> int: ...
    @property
    def task(self) -> Task: ...
    @property
    def level(self) -> float: ...
    @property
    def near_zero(self) -> float: ...
    @property
    def per_layer(self) -> bool: ...
    @property
    def scores(self) -> tuple[AnyScore, ...]: ...
    @property
    def model(self) -> nn.Module: ...

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """The trained weights by name, ``[members, *shape]``: neither biases nor normalization
        parameters, tied ones once, frozen ones left out. Where training is sharded, this rank's rows
        of them.
        """

    @property
    def frozen(self) -> int:
        """How many values of weights do not train and are left out of ``weights``, of each member."""

    @property
    def averaged(self) -> Mapping[str, Tensor] | None:
        """The averages of ``weights`` that the run is judged by, where it has some (``ema``)."""

    @property
    def initial(self) -> Mapping[str, Tensor]:
        """``weights`` before the first step."""

    @property
    def previous(self) -> Mapping[str, Tensor]:
        """``weights`` at the last measurement."""

    @property
    def shards(self) -> Whole | None:
        """How to add up over the ranks that have parts of ``weights``; None where these are whole."""

    def whole(self, name: str) -> Tensor:
        """Return a whole weight, ``[members, *shape]``; gathered from all ranks where it is sharded,
        so every rank asks for the same ones, one after the other.
        """

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """All trained parameters by name, biases too, ``[members, *shape]``, with the values that the
        run is judged by.
        """

    def count(self, part: Part) -> int:
        """Return how many rows of a part are measured."""

    def side(self, part: Part) -> Side:
        """Return what the model makes of all rows of a part: statistics
        ``[statistics, members, rows]``, aligned outputs ``[members, rows, ...]`` and targets
        ``[members or 1, rows, ...]``. Evaluated once for all measures.
        """

    def clean(self) -> tuple[Tensor, Tensor] | None:
        """Return the losses of the probe against its targets before label noise, and which of its
        rows the noise changed, both ``[members, rows]``; None where there is no noise.
        """

    def inputs(self, part: Part, rows: Tensor | None = None) -> Tensor:
        """Return inputs ``[members or 1, rows, ...]``."""

    def targets(self, part: Part, rows: Tensor | None = None) -> Tensor:
        """Return targets as the task's losses take them, ``[members or 1, rows, ...]``."""

    def outputs(self, part: Part, rows: Tensor | None = None, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return the model's outputs in evaluation mode, ``[members, rows, ...]``, which can be
        differentiated by ``parameters``.

        Args:
            part: Whose rows.
            rows: Their numbers.
            parameters: In place of the model's, by name, ``[members, *shape]``.
        """

    def losses(self, part: Part, rows: Tensor | None = None, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return the loss of each row, ``[members, rows]``, as ``outputs`` returns outputs."""


class Measure:
    """Numbers of a model that are recorded while it trains, or after it.

    Random numbers come from a ``torch.Generator`` of its own with a fixed seed, the same for all
    members, so that a member of a pack has the numbers that it has alone. Training must not notice
    a measure: what it changes of ``of`` is an error.

    Args:
        every: Epochs between two measurements, a multiple of ``measure.every``, which None stands
            for; the last epoch is always among them. ``end``: once, of the weights that the run
            stands for.

    Raises:
        ValueError: For another ``every``.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    """What it asks of ``Measured``: ``examples`` (``side``), its outputs and targets too
    (``outputs``), ``weights``, ``whole weights``, ``function`` (``outputs`` and ``losses`` at
    parameters of its own choice).
    """
    charts: ClassVar[tuple[str, ...]] = ()
    """Which of its numbers are worth a chart, as patterns of their names."""

    def __init__(self, every: int | Literal["end"] | None = None) -> None:
        if every not in ("end", None) and (not isinstance(every, int) or isinstance(every, bool) or every < 1):
            raise ValueError(f"every={every} must be an integer >= 1, end, or null for measure.every")
        self.every = every

    def measure(self, of: Measured, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return numbers by name, ``[members]``, without gradients.

        Args:
            of: The model or models.
            state: What the measure keeps from one call to the next, ``[members, ...]`` by name; empty
                at first. It is saved in checkpoints, and members that end leave it.
        """
        raise NotImplementedError

    def row_passes(self, rows: int) -> float:
        """Return the cost of a call: how many rows go forward through the model, a backward pass
        counting as two forward ones, beside the evaluation that all measures share.

        Args:
            rows: Measured rows of both parts.
        """
        return 0.0

    def check(self, task: Task) -> None:
        """Raise UserError, naming the setting to change, where a task's data cannot be measured."""

    def check_model(self, model: nn.Module) -> None:
        """Raise UserError, naming the setting to change, where a model cannot be measured; called before
        training with the model as it was built.
        """

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash((type(self), repr(sorted(vars(self).items(), key=lambda item: item[0]))))

    def due(self, epoch: int, last: bool) -> bool:
        """Return whether it is measured after an epoch, one that is measured at all.

        Args:
            epoch: Counted from 1; 0 is the untrained model.
            last: It is the last epoch.
        """
        return self.every is None or (isinstance(self.every, int) and (last or epoch % self.every == 0))
