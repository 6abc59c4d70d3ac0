"""Infer a model constructor's input and output sizes from its parameter names."""

import inspect
import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from reglab.core.errors import UserError

_SHAPE = {"input_shape", "in_shape", "inputs_shape", "shape"}
_FEATURES = {
    "in_features",
    "input_features",
    "num_features",
    "n_features",
    "input_size",
    "in_size",
    "input_dim",
    "in_dim",
    "n_inputs",
    "num_inputs",
    "n_in",
    "d_in",
}
_CHANNELS = {"in_channels", "input_channels", "in_chans", "num_channels"}
_OUTPUTS = {
    "outputs",
    "out_features",
    "output_features",
    "num_classes",
    "n_classes",
    "classes",
    "output_size",
    "out_size",
    "output_dim",
    "out_dim",
    "n_outputs",
    "num_outputs",
    "num_labels",
    "n_labels",
    "n_out",
    "d_out",
}
_TOKENS = {"vocab_size", "vocabulary_size", "n_vocab", "num_tokens", "n_tokens", "ntoken", "num_embeddings"}


def filled_in(
    cls: type[nn.Module],
    given: Mapping[str, Any],
    input_shape: tuple[int, ...],
    outputs: int,
    tokens: int | None = None,
) -> dict[str, Any]:
    """Return the size arguments that ``cls`` takes under a well-known name and that ``given``
    leaves open.

    ``in_features`` and its like get the number of input values, ``in_channels`` the first of at
    least two input dimensions, ``input_shape`` the whole shape, ``num_classes`` and its like the
    outputs. ``inputs`` gets an integer if the inputs are flat or its annotation is ``int``, else
    the shape. ``vocab_size`` and its like get ``tokens``, the number of token ids, where the inputs
    are such.

    Raises:
        UserError: If channels are wanted and the inputs are flat.
    """
    sizes: dict[str, Any] = {}
    for name, parameter in inspect.signature(cls).parameters.items():
        if name in given or parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            continue
        if name in _SHAPE:
            sizes[name] = input_shape
        elif name in _FEATURES or (name == "inputs" and (len(input_shape) == 1 or parameter.annotation is int)):
            sizes[name] = math.prod(input_shape)
        elif name == "inputs":
            sizes[name] = input_shape
        elif name in _CHANNELS:
            sizes[name] = _channels(cls, name, input_shape)
        elif name in _OUTPUTS:
            sizes[name] = outputs
        elif name in _TOKENS and tokens is not None:
            sizes[name] = tokens
    return sizes


def reads(cls: type[nn.Module], given: Mapping[str, Any]) -> str:
    """Return in which shape ``cls`` reads data that can be given in several: ``image`` (with
    channels) or ``flat``.

    It is the class's own attribute ``reads``; without one, image where the constructor takes
    channels under a well-known name, else flat.

    Args:
        given: The arguments in its config.
    """
    declared = getattr(cls, "reads", None)
    if declared in ("image", "flat"):
        return str(declared)
    return "image" if _CHANNELS & {*inspect.signature(cls).parameters, *given} else "flat"


def _channels(cls: type[nn.Module], name: str, input_shape: tuple[int, ...]) -> int:
    if len(input_shape) < 2:
        raise UserError(
            f"model: {cls.__name__} takes {name}, but the inputs are flat, shape {input_shape}; set data.shape=image "
            f"where the data set offers it, or give model.{name}"
        )
    return input_shape[0]
