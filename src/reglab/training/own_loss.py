"""A loss of the user's: built from its config node, tried on two rows, and given to the data."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap

from reglab.config.instantiate import build_function
from reglab.core.errors import UserError
from reglab.data import DataSet
from reglab.measures.evaluate import evaluation_mode, one_tensor
from reglab.tasks import task_named
from reglab.tasks.multi import Multi
from reglab.tasks.own_loss import Loss, OwnLoss

_TAKES = "a loss takes (outputs, targets), and returns a number for each row, or one for all of them"


def loss_of(node: object) -> Loss | None:
    """Return the loss that a config's ``loss`` describes; None where it is the task's own.

    Args:
        node: The dotted path of a function or of a ``torch.nn.Module``, or a mapping of
            ``_target_`` and arguments.

    Raises:
        UserError: For what is neither, or is not trusted.
    """
    if node is None:
        return None
    return build_function(node, nn.Module, "loss")


def with_loss(data: DataSet, loss: Loss | None, model: nn.Module, batch: int, key: object = None) -> DataSet:
    """Return the data set, judged by ``loss``.

    Args:
        data: The data set.
        loss: The user's; None: the task's own.
        model: Whose outputs it gets; it is left as it was.
        key: What tells the loss from others; None: the function itself.
        batch: Rows of a training step, which a loss without values per example is computed over.

    Raises:
        UserError: If the loss does not work on two rows.
    """
    if loss is None:
        return data
    if not callable(loss):
        raise UserError(f"loss={loss!r} is no function: {_TAKES}")
    _check_instance(loss)
    if isinstance(data.criterion, Multi):
        raise UserError("a loss of your own judges one target, and there are several, each with a task: leave it out")
    task, weight = task_named(data.task), next(model.parameters())
    inputs, targets = (part[:2].to(weight.device) for part in (data.val.inputs, data.val.targets))
    dtype = weight.dtype if inputs.is_floating_point() else inputs.dtype
    with evaluation_mode(model), torch.no_grad():
        outputs = task.align(one_tensor(model(inputs.to(dtype)), model), targets)
    value = _tried(loss, outputs.requires_grad_(), targets)
    reason = _why_solo(loss, outputs.detach(), targets)
    if value.dim() == 0 and data.weighted:
        raise UserError(
            "the loss returns one number for all rows, which example weights cannot weigh: return one for each row, or "
            "leave data.class_weight and data.sample_weight out"
        )
    return replace(data, own=OwnLoss(task, loss, value.dim() > 0, outputs.dim(), batch, reason, key))


def _check_instance(loss: object) -> None:
    """Refuse the class of a loss, which would take outputs and targets for its arguments."""
    if isinstance(loss, type) and issubclass(loss, nn.Module):
        raise UserError(f"loss={loss.__name__} is a class: give an instance of it, loss={loss.__name__}()")


def _tried(loss: Loss, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the loss of two rows."""
    given = f"outputs {list(outputs.shape)} and targets {list(targets.shape)}"
    try:
        value: Any = loss(outputs, targets)
    except Exception as error:
        raise UserError(f"the loss fails on {given} of two rows ({type(error).__name__}: {error}); {_TAKES}") from error
    if not isinstance(value, Tensor) or (value.dim() > 0 and len(value) != len(targets)):
        found = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise UserError(f"the loss of two rows, {given}, is {found}; {_TAKES}")
    if not value.requires_grad:
        raise UserError(f"the loss has no gradient by the outputs, so nothing can be trained with it; {_TAKES}")
    return value


def _why_solo(loss: Loss, outputs: Tensor, targets: Tensor) -> str:
    """Return why a loss cannot be vmapped over models; empty if it can."""
    try:
        vmap(lambda each: loss(each, targets))(torch.stack([outputs, outputs]))
    except Exception as error:  # noqa: BLE001 - it is the user's function
        return f"the loss cannot be vmapped ({type(error).__name__}: {str(error).splitlines()[0]})"
    return ""
