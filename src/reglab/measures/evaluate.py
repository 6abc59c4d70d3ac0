"""Evaluate a model: losses and outputs of all rows, in evaluation mode."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from reglab.core.errors import UserError
from reglab.measures.losses import example_losses
from reglab.tasks import Task

_ROWS, _VALUES = 4096, 2**26  # rows of one forward pass, and values in them


class Evaluation(NamedTuple):
    """Outputs and losses of a model on some examples.

    Args:
        losses: ``[..., rows]``.
        outputs: ``[..., rows, ...]``.
        targets: ``[rows, ...]``, shared by any leading axes.
    """

    losses: Tensor
    outputs: Tensor
    targets: Tensor


class Batched(Protocol):
    """Inputs ``[rows, ...]`` that are read batch by batch."""

    @property
    def shape(self) -> torch.Size: ...

    def __len__(self) -> int: ...

    def read(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield the inputs of each batch of row numbers, int64 ``[rows]``, on the model's device."""


def evaluate(
    model: nn.Module, inputs: Tensor | Batched, targets: Tensor, task: Task | str, batch_rows: int | None = None
) -> Evaluation:
    """Return losses and outputs of all rows, in evaluation mode and without gradients.

    Every submodule gets back the mode that it had, also one that the user froze apart; evaluation
    mode leaves buffers (BatchNorm's statistics) alone. Rows go through the model ``batch_rows`` at
    a time, which bounds memory and, in evaluation mode, does not change the answer.

    Args:
        model: Any module that maps ``inputs`` to one tensor.
        inputs: ``[rows, ...]``, on the model's device, or read batch by batch.
        targets: ``[rows]`` or ``[rows, columns]``.
        task: Which decides the loss.
        batch_rows: Rows of one forward pass; None: 4096, fewer of large ones.

    Returns:
        Losses and outputs of all rows.

    Raises:
        UserError: If the model does not return one tensor.
    """
    batch_rows = batch_rows or rows_at_once(inputs, _ROWS)
    with evaluation_mode(model), torch.no_grad():
        if isinstance(inputs, Tensor):
            batches: Iterable[Tensor] = torch.split(inputs, batch_rows)
        else:
            batches = inputs.read(torch.split(torch.arange(len(inputs)), batch_rows))
        parts = [one_tensor(model(batch), model) for batch in batches]
        return evaluation_of(torch.cat(parts) if len(parts) > 1 else parts[0], targets, task)


def rows_at_once(inputs: Tensor | Batched, most: int) -> int:
    """Return how many rows go through a model at a time: ``most``, fewer of more than 16,384 values.

    Args:
        inputs: ``[rows, ...]``.
        most: Of small rows.
    """
    return max(1, min(most, _VALUES // max(1, inputs.shape[1:].numel())))


def evaluation_of(outputs: Tensor, targets: Tensor, task: Task | str) -> Evaluation:
    """Return outputs with their losses, in at least float32: under autocast a model answers in half
    precision.

    Args:
        outputs: ``[..., rows, ...]``.
        targets: ``[rows, ...]``.
        task: Which decides the loss.
    """
    with torch.no_grad():
        wide = outputs.float() if outputs.is_floating_point() and outputs.dtype.itemsize < 4 else outputs
        return Evaluation(example_losses(wide, targets, task), wide, targets)


def one_tensor(outputs: object, model: nn.Module) -> Tensor:
    """Return what ``model`` returned.

    Raises:
        UserError: If that is not one tensor.
    """
    if not isinstance(outputs, Tensor):
        raise UserError(
            f"{type(model).__name__} returned a {type(outputs).__name__}; to be measured, it must return one "
            "tensor of outputs: wrap it in a module that does"
        )
    return outputs


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put ``model`` in evaluation mode, and each of its submodules back into its own mode
    afterwards.
    """
    modes = [(module, module.training) for module in model.modules()]
    if not any(training for _, training in modes):  # as within another such context
        yield
        return
    model.eval()
    try:
        yield
    finally:
        # train() first: a module may do more there than set the flag (merge weights, for one). Then
        # the flags, one by one, since train() sets them all alike.
        model.train(modes[0][1])
        for module, training in modes:
            if module.training != training:
                module.training = training
