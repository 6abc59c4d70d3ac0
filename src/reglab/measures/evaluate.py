"""Evaluate a model: losses and outputs of all rows, in evaluation mode."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from reglab.core.errors import UserError
from reglab.measures.losses import example_losses
from reglab.tasks import Task


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


def evaluate(model: nn.Module, inputs: Tensor, targets: Tensor, task: Task | str, batch_rows: int = 4096) -> Evaluation:
    """Return losses and outputs of all rows, in evaluation mode and without gradients.

    Every submodule gets back the mode that it had, also one that the user froze apart; evaluation
    mode leaves buffers (BatchNorm's statistics) alone. Rows go through the model ``batch_rows`` at
    a time, which bounds memory and, in evaluation mode, does not change the answer.

    Args:
        model: Any module that maps ``inputs`` to one tensor.
        inputs: ``[rows, ...]``, on the model's device.
        targets: ``[rows]`` or ``[rows, columns]``.
        task: Which decides the loss.
        batch_rows: Rows of one forward pass.

    Returns:
        Losses and outputs of all rows.

    Raises:
        UserError: If the model does not return one tensor.
    """
    with evaluation_mode(model), torch.no_grad():
        parts = [one_tensor(model(batch), model) for batch in torch.split(inputs, batch_rows)]
        return evaluation_of(torch.cat(parts) if len(parts) > 1 else parts[0], targets, task)


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
