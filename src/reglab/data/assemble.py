"""Assemble a data set from a config: load, split, encode, add noise, weight."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from reglab.config.lightning_loop import is_data_module
from reglab.core.errors import UserError, nearest
from reglab.data.array_files import arrays
from reglab.data.breast_cancer import breast_cancer
from reglab.data.correlated_regression import correlated_regression
from reglab.data.dataset import DataSet, Part
from reglab.data.diabetes import diabetes
from reglab.data.digest import digest
from reglab.data.digits import digits
from reglab.data.encode import Fitted, encode
from reglab.data.example_weights import example_weights
from reglab.data.image_folder import image_folder
from reglab.data.label_noise import corrupt
from reglab.data.lightning_data import module_rows
from reglab.data.map_dataset import dataset
from reglab.data.mnist1d import mnist1d
from reglab.data.multilabel import multilabel
from reglab.data.noise_columns import noise_columns
from reglab.data.on_disk import OnDisk, on_disk
from reglab.data.options import Options
from reglab.data.parquet import parquet
from reglab.data.preprocessing import preprocessing_of
from reglab.data.queries import Queries, queries_of
from reglab.data.replicas import replica_rows
from reglab.data.shards import shards
from reglab.data.source import Floats, Integers, Source
from reglab.data.sparse_regression import sparse_regression
from reglab.data.split import Split, split_rows
from reglab.data.table import table
from reglab.data.targets import Targets, prepare_targets
from reglab.data.tokens import tokens
from reglab.data.windows import windows
from reglab.data.wine import wine
from reglab.tasks import task_named
from reglab.tasks.positions import IGNORED

SOURCES: dict[str, Callable[..., Source]] = {
    loader.__name__: loader
    for loader in (
        digits,
        breast_cancer,
        wine,
        diabetes,
        mnist1d,
        sparse_regression,
        correlated_regression,
        multilabel,
        table,
        image_folder,
        arrays,
        parquet,
        shards,
        windows,
        dataset,
        tokens,
    )
}


_COMMON = {field.name for field in fields(Options)}
# Options that name columns.
_COLUMNS = {"target", "event", "drop", "categorical", "group", "time", "query", "sample_weight", "columns", "series"}


def check(config: Mapping[str, Any]) -> Options:
    """Return the common options of a ``data`` node.

    What its source makes of its own ones shows when it is loaded.

    Raises:
        UserError: For an unknown name, key or value.
    """
    if is_data_module({"data": config}):
        return Options(standardize=False)  # what else its node says are arguments of a class of the user's
    name = str(config.get("name"))
    if name not in SOURCES:
        raise UserError(f"data.name={name}: {nearest(name, SOURCES)} (one of {', '.join(SOURCES)})")
    parameters = inspect.signature(SOURCES[name]).parameters
    source_options = {key for key, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY}
    for key in config:
        if key not in source_options | _COMMON | {"name"} and len(source_options) == len(parameters):
            raise UserError(
                f"data.{key} is not an option of data={name}: {nearest(str(key), source_options | _COMMON)}"
            )
    common = {key: value for key, value in config.items() if key in _COMMON}
    if name == windows.__name__ and common.get("split", "time") == "time":
        common |= {"split": "time", "time": common.get("time") or "row"}  # in the file's order where no column tells it
    return Options(**common)


def column_names(value: Any) -> Any:
    """Return what names a column, or several, as text: a header of numbers is text, too.

    Example:
        >>> column_names([2, "a"])
        ['2', 'a']
    """
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [column_names(name) for name in value]
    return str(value).lower() if isinstance(value, bool) else value if value is None else str(value)


def load(config: Mapping[str, Any]) -> DataSet:
    """Return the data set that the ``data`` node of a config describes.

    ``name`` chooses the data set; the other keys are its own options and those of
    ``conf/data/_options.yaml``. Equal configs give bit-identical data, whatever the state of any
    global random generator.

    Args:
        config: The ``data`` node: ``name`` and options.

    Returns:
        The data set with its three parts.

    Raises:
        UserError: For an unknown name, key or value, and for data that cannot be trained on.
    """
    options = check(config)
    if is_data_module({"data": config}):
        source, batch_size = module_rows(config)
        return replace(assemble(source.name or "", source, options), batch_size=batch_size)
    name, source = str(config["name"]), read_source(config)
    return assemble(source.name or name, source, options)


def read_source(config: Mapping[str, Any]) -> Source:
    """Return the raw rows that the ``data`` node of a config describes.

    Raises:
        UserError: For what cannot be read.
    """
    name = str(config["name"])
    parameters = inspect.signature(SOURCES[name]).parameters
    own = {key: value for key, value in config.items() if key in parameters}
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):  # of a class of the user's
        own = {key: value for key, value in config.items() if key not in {"name", *_COMMON}}
    return SOURCES[name](**own | {key: column_names(own[key]) for key in own.keys() & _COLUMNS})


def assemble(name: str, source: Source, options: Options) -> DataSet:
    """Split, encode, disturb and weigh the rows of ``source``, then resample the training rows.

    An example thus has the same inputs, target and weight in every replica.

    Args:
        name: The name of the data set.
        source: All rows, raw.
        options: Options of split, replicas, noise and weights.

    Returns:
        The data set; inputs float32 or int64 tokens, see ``Part``.

    Raises:
        UserError: For options that do not fit ``source``.
    """
    _check_columns(name, source, options)
    queries = queries_of(source)
    source, documents = (source, None) if queries is None else (queries.examples(source), source)
    split = split_rows(source, options)
    if queries is None or documents is None:
        encoded, targets = _encoded(source, split, options), prepare_targets(source, split.train)
    else:
        encoded, targets = _of_queries(queries, documents, queries.split(split), options)
    observed, corrupted = _add_label_noise(targets, source, split, options)
    classes = None if source.classes is None else observed.long().numpy()
    weights = torch.from_numpy(example_weights(source, classes, split.train, options).astype(np.float32))

    def part(rows: Integers) -> Part:
        index = torch.from_numpy(rows)
        chosen = (encoded.rows(rows), observed[index], index, weights[index])
        return Part(*chosen, corrupted[index], targets.values[index])

    parts = {"train": part(replica_rows(split, source, options)), "val": part(split.val), "test": part(split.test)}
    shape = tuple(parts["train"].inputs.shape[1:])
    names = (*encoded.names, *(f"noise_{column}" for column in range(options.noise_columns)))
    return DataSet(
        name=name,
        task=source.task,
        train=parts["train"],
        val=parts["val"],
        test=parts["test"],
        outputs=targets.outputs,
        input_shape=shape,
        feature_names=names,
        target_names=source.target_names,
        digest=digest(parts, (source.task, targets.outputs, names, source.target_names)),
        summary=_summary(parts, split.method, options) | targets.summary | _documents(parts, queries),
        expected=None if source.expected is None else torch.from_numpy(source.expected),
        target_scale=targets.scale,
        tokens=encoded.tokens,
        several=source.several,
        preprocessing=preprocessing_of(source, shape, encoded.fitted, targets, options),
        **prepared_truth(source, encoded.fitted.scale, len(encoded.names), options.noise_columns)._asdict(),
    )


def _check_columns(name: str, source: Source, options: Options) -> None:
    for key, column in (("group", source.group), ("time", source.time), ("sample_weight", source.sample_weight)):
        given = getattr(options, key)
        if given is not None and column is None:
            raise UserError(f"data.{key}={given} names a column of a table, but data={name} has none: set it to null")
    if task_named(source.task).reads == "queries" and source.query is None:
        raise UserError(
            f"the task {source.task} ranks the documents of queries: give a table with data.query=COLUMN, or in Python "
            "reglab.dataset(inputs, relevance, query=...)"
        )
    if options.noise_columns and source.shape is not None:
        what = "tokens: set it to 0" if source.tokens else "images: set data.shape=flat where the data set has it"
        raise UserError(f"data.noise_columns={options.noise_columns} cannot be added to {what}")


@dataclass(frozen=True)
class _InMemory:
    """Inputs of all rows: float32, and tokens int64."""

    inputs: Tensor
    names: tuple[str, ...]
    fitted: Fitted
    tokens: int | None

    def rows(self, index: Integers) -> Tensor:
        return self.inputs[torch.from_numpy(index)]


def _of_queries(queries: Queries, source: Source, split: Split, options: Options) -> tuple[_InMemory, Targets]:
    """Return inputs ``[queries, documents, features]`` and relevance ``[queries, documents]``, prepared
    by the documents of the training part.

    Args:
        split: Of the rows.
    """
    encoded, targets = _encoded(source, split, options), prepare_targets(source, split.train)
    assert isinstance(encoded, _InMemory), "a table or arrays"
    relevance = queries.padded(targets.values, IGNORED)
    return replace(encoded, inputs=queries.padded(encoded.inputs, 0.0)), replace(targets, values=relevance)


def _encoded(source: Source, split: Split, options: Options) -> _InMemory | OnDisk:
    """Return the inputs of all rows, noise columns behind them."""
    if source.reader is not None:
        return on_disk(source, source.reader, split, options)
    encoded = encode(source, split.train, options.standardize)
    columns = encoded.inputs
    if options.noise_columns:
        noise = noise_columns(len(columns), options.noise_columns, options.split_seed)
        columns = np.concatenate([columns, noise], axis=1)
    inputs = torch.from_numpy(columns if columns.dtype == np.int64 else columns.astype(np.float32, copy=False))
    tokens = int(inputs.max()) + 1 if source.tokens else None
    shape = source.shape or (inputs.shape[1],)
    return _InMemory(inputs.reshape(-1, *shape), encoded.names, encoded.fitted, tokens)


def _add_label_noise(targets: Targets, source: Source, split: Split, options: Options) -> tuple[Tensor, Tensor]:
    """Return all targets with label noise in the training rows, and which rows have it."""
    train = torch.from_numpy(split.train)
    noisy, mask = corrupt(
        targets.values[train], train, source.task, targets.outputs, options.label_noise, options.split_seed
    )
    observed, corrupted = targets.values.clone(), torch.zeros(len(targets.values), dtype=torch.bool)
    observed[train], corrupted[train] = noisy, mask
    return observed, corrupted


def _summary(parts: Mapping[str, Part], split: str, options: Options) -> dict[str, str | int | float | bool]:
    summary: dict[str, str | int | float | bool] = {f"{name}_rows": len(part) for name, part in parts.items()}
    summary |= {"split": split, "split_seed": options.split_seed}
    if options.folds is not None:
        summary |= {"folds": options.folds, "fold": options.fold}
    if options.replicas is not None:
        summary |= {"replicas": options.replicas, "replica": options.replica, "resample": options.resample}
    summary |= {"features": math.prod(parts["train"].inputs.shape[1:]), "noise_columns": options.noise_columns}
    summary |= {"label_noise": options.label_noise, "corrupted_rows": int(parts["train"].corrupted.sum())}
    real = parts["train"].inputs.is_floating_point()
    return summary | {"standardize": options.standardize and real}


def _documents(parts: Mapping[str, Part], queries: Queries | None) -> dict[str, int]:
    """Return the features of a document, and how many documents the longest query has."""
    if queries is None:
        return {}
    documents, features = parts["train"].inputs.shape[1:]
    return {"features": features, "documents": documents}


class Truth(NamedTuple):
    """The fields of ``DataSet`` of the same names."""

    coefficients: Tensor | None
    relevant: Tensor | None
    feature_groups: Tensor | None


def prepared_truth(source: Source, scale: Floats, features: int, noise: int) -> Truth:
    """Return the truth about ``features`` prepared inputs and ``noise`` noise columns behind them.

    Coefficients are multiplied by the deviation that their input was divided by. With noise
    columns, inputs of which nothing is known count as relevant: beside columns of pure noise, that
    is what the data set is for.

    Args:
        source: Raw rows with their truth.
        scale: float64 [columns], by which the inputs were divided.
        features: Number of inputs without noise columns.
        noise: Number of noise columns.

    Returns:
        Coefficients, relevant flags and groups, [features + noise] each, None where unknown.
    """
    coefficients = relevant = groups = None
    if source.coefficients is not None:
        coefficients = torch.from_numpy(np.append(source.coefficients * scale, np.zeros(noise)).astype(np.float32))
    if source.relevant is not None or noise:
        known = np.ones(features, dtype=bool) if source.relevant is None else source.relevant
        relevant = torch.from_numpy(np.append(known, np.zeros(noise, dtype=bool)))
    if source.feature_groups is not None:
        groups = torch.from_numpy(np.append(source.feature_groups, np.full(noise, -1)))
    return Truth(coefficients, relevant, groups)
