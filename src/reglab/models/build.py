"""Build a model from its config node, with sizes from the data, and try it once."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from reglab.config.instantiate import construct, locate
from reglab.core.errors import UserError
from reglab.models.each_document import EachDocument
from reglab.models.lightning_module import check_plain
from reglab.models.several_inputs import split_inputs
from reglab.models.sizes import filled_in


def build(
    config: Mapping[str, Any],
    input_shape: tuple[int, ...],
    outputs: int,
    tokens: int | None = None,
    several: Sequence[tuple[str, Sequence[int]]] = (),
    documents: bool = False,
) -> nn.Module:
    """Return the model that ``config`` describes, for inputs ``[rows, *input_shape]`` and that many
    outputs.

    ``_target_`` is the dotted path of any ``nn.Module`` class; the other keys are its arguments.
    Sizes are filled in (see ``sizes.filled_in``). The model is tried on two rows of zeros, which
    also gives lazy layers their sizes.

    Args:
        tokens: How many token ids there are, where the inputs are tokens, int64; it is then tried
            on the largest.
        several: Name and shape of each of several inputs, which an example's values are, one behind
            the other; empty: it is one input.
        documents: Whether the first axis of an input counts documents, each of which gets outputs.

    Raises:
        UserError: If the class is not an ``nn.Module``, an argument is misspelt, missing or
            invalid, or the model does not map ``[rows, *input_shape]`` to ``[rows, outputs]``.
    """
    if documents:
        return EachDocument(build(config, input_shape[1:], outputs, tokens))
    cls = locate(config.get("_target_"), nn.Module, "model")
    check_plain(cls, f"model._target_={config['_target_']}")
    given = {name: value for name, value in config.items() if name != "_target_"}
    model = construct(cls, {**filled_in(cls, given, input_shape, outputs, tokens), **given}, "model")
    if several:
        split_inputs(model, [shape for _, shape in several], [name for name, _ in several])
    _try(model, input_shape, outputs, tokens)
    return model


def _try(model: nn.Module, input_shape: tuple[int, ...], outputs: int, tokens: int | None) -> None:
    """Raise UserError unless the model maps ``[2, *input_shape]`` to ``[2, outputs]``; leave its
    mode as it was.
    """
    name, training = type(model).__name__, model.training
    inputs = torch.zeros(2, *input_shape, dtype=_dtype(model))
    if tokens is not None:
        inputs = torch.full((2, *input_shape), tokens - 1)
    model.eval()
    try:
        with torch.no_grad():
            answer = model(inputs)
    # AssertionError: timm, where a model was made for images of another size.
    except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError, AssertionError) as error:
        what = "" if tokens is None else f", token ids from 0 to {tokens - 1}"
        raise UserError(
            f"model: {name} cannot read inputs of shape [rows, {_listed(input_shape)}]{what}: {error}. Set its sizes, "
            "or take data of another shape (data.shape, where the data set offers it)"
        ) from error
    model.train(training)
    if not isinstance(answer, Tensor):
        raise UserError(f"model: {name} must return one tensor of outputs, got {type(answer).__name__}")
    if answer.shape != (2, outputs) and not (outputs == 1 and answer.shape == (2,)):
        raise UserError(
            f"model: {name} gave outputs of shape {list(answer.shape)} for 2 rows, but the data need [2, {outputs}]; "
            "set its output size, or name that argument outputs so that it is filled in"
        )


def _dtype(model: nn.Module) -> torch.dtype:
    # A lazy layer's parameters have no values yet, but they have a dtype.
    return next((parameter.dtype for parameter in model.parameters()), torch.get_default_dtype())


def _listed(shape: tuple[int, ...]) -> str:
    return ", ".join(str(size) for size in shape)
