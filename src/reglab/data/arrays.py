"""Data from Python: a bundled set by name, or the user's own arrays."""

import inspect
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.utils.data import Dataset

from reglab.core.errors import UserError, nearest
from reglab.data.assemble import assemble, load
from reglab.data.checks import padding
from reglab.data.dataset import DataSet
from reglab.data.map_dataset import items
from reglab.data.options import Options
from reglab.data.queries import documents_of
from reglab.data.source import Source
from reglab.data.steering import Steering, steered
from reglab.data.table_target import targets_of

_KEYWORD = inspect.Parameter.KEYWORD_ONLY


def dataset(data: "str | ArrayLike | Dataset[Any]", targets: ArrayLike | str | None = None, **options: Any) -> DataSet:
    """Return a data set, split into training, validation and test part.

    A tensor of int64 holds tokens [rows, length], which go to the model as they are; any other
    numbers are quantities, also whole ones, and are scaled.

    Args:
        data: The name of a bundled set (``digits``); inputs [rows, ...] as an array or tensor, then
            ``targets`` are [rows] or [rows, columns], or [rows, ...] where a task has them at each
            position; or a torch ``Dataset`` of pairs (inputs, target), or of mappings, whose keys
            ``inputs`` and ``targets`` name.
        targets: int or str classes, or numbers, [rows, ...]; None for a bundled set.
        options: Those of ``conf/data/_options.yaml`` (``train_size``, ``label_noise``, ...) and the
            set's own; for arrays also ``task``: auto, or a name of ``reglab.tasks``, ``query``, which
            of its queries each row is a document of, and ``pad``, the value of padding; their
            ``group``, ``time`` and ``sample_weight`` are arrays, [rows]; for a torch ``Dataset``
            those of ``conf/data/dataset.yaml``.

    Returns:
        The data set, split into training, validation and test part.

    Raises:
        UserError: For an unknown name or option, and for arrays that cannot be trained on.
    """
    if "batch_size" in options:
        raise UserError(f"batch_size is of training: reglab.fit(..., batch_size={options['batch_size']})")
    if isinstance(data, str):
        if targets is not None:
            raise UserError(f"dataset({data!r}) is a bundled set with its own targets: leave targets out")
        return load({"name": data, **options})
    if isinstance(data, Dataset):
        return _from_items(data, options | ({} if targets is None else {"targets": targets}))
    if targets is None:
        raise UserError("dataset(inputs, targets): give targets as well, [rows] or [rows, columns]")
    return from_arrays(data, targets, options)


def _from_items(data: "Dataset[Any]", options: Mapping[str, Any]) -> DataSet:
    """Return the data set of a torch ``Dataset``."""
    own = {name for name, parameter in inspect.signature(items).parameters.items() if parameter.kind is _KEYWORD}
    common = {field.name for field in fields(Options)}
    for key in options:
        if key not in own | common:
            raise UserError(f"dataset({key}=...) is not an option; {nearest(key, own | common)}")
    name = type(data).__name__
    source = items([data], [name], **{key: value for key, value in options.items() if key in own})
    return assemble(name, source, Options(**{key: value for key, value in options.items() if key in common}))


def _numbers(inputs: ArrayLike) -> NDArray[np.float64]:
    try:
        values = np.asarray(inputs, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"inputs must be numbers ({error}); encode text first, or use data=table, which does"
        ) from error
    if infinite := int(np.isinf(values).sum()):
        raise UserError(f"inputs hold {infinite} infinite values; use NaN for what is missing, it is filled in")
    return values


def _ids(inputs: Tensor) -> NDArray[np.int64]:
    if inputs.numel() and (least := int(inputs.min())) < 0:
        raise UserError(
            f"int64 inputs are token ids, which must be >= 0, got {least}; if they are quantities, convert them: "
            "inputs.double()"
        )
    return inputs.cpu().numpy()


def from_arrays(inputs: ArrayLike, targets: ArrayLike, options: Mapping[str, Any]) -> DataSet:
    """Return the data set of arrays.

    A NaN among the inputs counts as missing and is imputed by the column's median.

    Args:
        inputs: [rows, ...], numbers; int64 tensors are token ids.
        targets: [rows] or [rows, columns].
        options: Fields of ``Options``, of which group, time and weights are arrays; ``task``, ``pad``,
            and ``query``, the query of each row, [rows].
    """
    valid = {field.name for field in fields(Options)} | {"task", "pad", "query"}
    for key in options:
        if key not in valid:
            raise UserError(f"dataset({key}=...) is not an option; {nearest(key, valid)}")
    tokens = isinstance(inputs, Tensor) and inputs.dtype == torch.int64
    values, target_values = _ids(torch.as_tensor(inputs)) if tokens else _numbers(inputs), np.asarray(targets)
    if values.ndim < 2 or len(values) != len(target_values):
        raise UserError(
            f"inputs {values.shape} and targets {target_values.shape} must be [rows, ...] and [rows], equally long"
        )
    pad = padding(options.get("pad"), tokens)
    if pad is not None and np.isnan(values).any():
        raise UserError(f"inputs hold NaN, which is filled in, and pad={pad:g}: write the value of padding there")
    steer = {key: options[key] for key in Steering._fields if options.get(key) is not None}
    if options.get("query") is not None and steer:
        raise UserError(f"dataset(query=..., {next(iter(steer))}=...): queries are split as they are; give one of both")
    documents = documents_of(values, target_values, options.get("query"), options.get("task", "auto"))
    values, target = documents.inputs, targets_of(documents.targets, documents.task)
    flat = values.reshape(len(values), -1)
    source = Source(
        task=target.task,
        numeric=flat,
        numeric_names=tuple(f"x{i}" for i in range(flat.shape[1])),
        targets=target.targets,
        target_names=target.target_names,
        class_names=target.class_names,
        shape=values.shape[1:] if values.ndim > 2 or tokens else None,
        homogeneous=values.ndim > 2,
        tokens=tokens,
        pad=pad,
        query=documents.query,
        **steered(steer, len(values))._asdict(),
        standardize_target=True,
    )
    common = {key: value for key, value in options.items() if key not in ("task", "pad", "query")}
    return assemble("arrays", source, Options(**common | dict.fromkeys(steer, "an array")))
