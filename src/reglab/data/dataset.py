"""``DataSet`` and its parts: tensors, names, truth, digest."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from reglab.data.rows import Rows
from reglab.data.several import Input
from reglab.tasks import Task, task_named

if TYPE_CHECKING:
    from reglab.data.preprocessing import Preprocessing


@dataclass(frozen=True)
class Part:
    """Rows of one part.

    Args:
        inputs: float32 ``[rows, *input_shape]``; int64 where they are tokens. A tensor, or ``Rows``
            that are read batch by batch; all else is in memory.
        targets: Classification int64 [rows] class numbers; binary float32 [rows] of 0 and 1;
            multilabel float32 [rows, labels] of 0 and 1; regression float32 [rows], or [rows,
            outputs] where there are several. Others as ``reglab.tasks`` has them: of a survival
            [rows, 2], of a ranking, whose rows are queries, [rows, documents].
        index: int64 [rows], the row's number in the whole data set, whatever the split. A bootstrap
            replica holds rows more than once, and then their number: copies of an example get the
            same draws, such as the dropout mask, in a step.
        weights: float32 [rows], example weight (sample weight times class weight), of mean 1 over
            the training part before it is resampled.
        corrupted: bool [rows], where label noise replaced the target. Never in validation or test.
        clean_targets: Like ``targets``, before label noise.
    """

    inputs: Tensor | Rows
    targets: Tensor
    index: Tensor
    weights: Tensor
    corrupted: Tensor
    clean_targets: Tensor

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def tensor(self) -> Tensor:
        """The inputs, where they are in memory."""
        assert isinstance(self.inputs, Tensor), "streamed inputs are read by batch"
        return self.inputs

    def to(self, device: torch.device | str) -> "Part":
        """Return the part on ``device``; inputs that are not in memory stay where they are."""
        inputs = self.inputs.to(device) if isinstance(self.inputs, Tensor) else self.inputs
        others = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "inputs"}
        return Part(inputs, **{name: values.to(device) for name, values in others.items()})


@dataclass(frozen=True)
class DataSet:
    """A data set, split and prepared; equal configs give equal bits and an equal ``digest``.

    Args:
        outputs: Width of the model's output: classes; 1 for binary; labels; target columns.
        input_shape: The shape of one example.
        feature_names: One for each input, in flattened order.
        target_names: The classes of a classification, the labels or target columns otherwise.
        coefficients: The true ones of a synthetic regression, float32 [features], on the scale of
            ``inputs``.
        relevant: Bool [features], True where the input carries signal; None where that is
            unknown.
        tokens: How many token ids there are, 0 to ``tokens - 1``, where the inputs are tokens; None
            where they are real.
        expected: float64 [rows of the whole data set], the targets of a synthetic regression without
            their noise; None where they are not known.
        feature_groups: Int64 [features], the group of correlated inputs, -1 for a noise column;
            None where there is none.
        target_scale: The deviations by which a regression's target columns were divided, float64
            [columns]; None: by none.
        several: The inputs that a row's values are, one behind the other, which a network gets apart;
            empty: it is one.
        batch_size: Of the loader that the rows came with; None: that of the config.
        preprocessing: How raw rows became inputs; None where it is not known.
        own: The task with a loss of the user's; None: as it is.
        digest: SHA-256 (hex) of everything that training, validation and testing see.
        summary: Plain values for params and notes: rows, split, noise, scale of the target.
    """

    name: str
    task: str
    train: Part
    val: Part
    test: Part
    outputs: int
    input_shape: tuple[int, ...]
    feature_names: tuple[str, ...]
    target_names: tuple[str, ...]
    digest: str
    summary: Mapping[str, str | int | float | bool]
    coefficients: Tensor | None = None
    relevant: Tensor | None = None
    feature_groups: Tensor | None = None
    expected: Tensor | None = None
    target_scale: Tensor | None = None
    tokens: int | None = None
    several: tuple[Input, ...] = ()
    batch_size: int | None = None
    own: Task | None = None
    preprocessing: "Preprocessing | None" = None

    @property
    def criterion(self) -> Task:
        """What outputs are judged by: the task, or ``own``."""
        return self.own or task_named(self.task)

    @property
    def streamed(self) -> bool:
        """Whether inputs are read batch by batch."""
        return not isinstance(self.train.inputs, Tensor)

    @property
    def weighted(self) -> bool:
        """Whether rows count differently, by sample weights or class weights."""
        return not all(bool((part.weights == 1).all()) for part in (self.train, self.val, self.test))
