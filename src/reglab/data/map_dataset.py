"""A user's own torch ``Dataset``: a class with ``__len__`` and ``__getitem__``, or with ``__iter__``."""

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from reglab.config.instantiate import construct, locate
from reglab.core.describe_error import describe_error
from reglab.core.errors import UserError
from reglab.data.array_files import input_names
from reglab.data.array_reader import ArrayReader
from reglab.data.checks import padding, whole
from reglab.data.item_reader import ItemReader, Key, Keys
from reglab.data.iterable_items import IterableItems, is_iterable
from reglab.data.read_ahead import ReadAhead
from reglab.data.reader import Array
from reglab.data.several import names_of
from reglab.data.source import Integers, Source
from reglab.data.stream_choice import is_streamed
from reglab.data.table_target import TaskOrTasks, targets_of

PARTS = ("train", "val", "test")
_BLOCK = 64  # items that a worker reads at a time
_COPIES = 3  # of the raw rows, while inputs are made of them


def dataset(
    *,
    _target_: str | None = None,
    inputs: Key | Sequence[str] = None,
    targets: Key = None,
    task: TaskOrTasks = "auto",
    take: int | None = None,
    pad: float | None = None,
    train: Mapping[str, Any] | None = None,
    val: Mapping[str, Any] | None = None,
    test: Mapping[str, Any] | None = None,
    stream: bool | str = "auto",
    workers: int = 2,
    arguments: Mapping[str, Any] | None = None,
    **more: Any,
) -> Source:
    """Return the items of a user's data set, or of one for each part.

    Args:
        _target_: Its class, of a trusted package.
        inputs, targets: The keys of an item that is a mapping, of one input or of several; None: an
            item is a pair of both.
        task: ``auto``, or a name of ``reglab.tasks``.
        take: How many items are read of a class that is only iterated; None: all.
        pad: The value of what is padding among the inputs, and stays so.
        train, val, test: ``_target_`` and arguments of each part, instead of one to be split.
        stream: Read the inputs anew in each epoch, rather than once into memory; ``auto``: where
            they do not fit into the free memory.
        workers: Processes that read the items.
        arguments, more: Of the class; in ``arguments`` those that have the name of an option.

    Raises:
        UserError: For a class or an item that is none of these, and items that differ from one
            reading to the next.
    """
    nodes = _nodes({"train": train, "val": val, "test": test}, {"_target_": _target_, **more, **(arguments or {})})
    sets, names = [_built(node, key) for key, node in nodes.items()], [str(node["_target_"]) for node in nodes.values()]
    return items(
        sets, names, inputs=inputs, targets=targets, task=task, take=take, pad=pad, stream=stream, workers=workers
    )


def items(
    sets: Sequence[Any],
    names: Sequence[str],
    *,
    inputs: Key | Sequence[str] = None,
    targets: Key = None,
    task: TaskOrTasks = "auto",
    take: int | None = None,
    pad: float | None = None,
    stream: bool | str = "auto",
    workers: int = 2,
) -> Source:
    """Return the items of data sets: of one to be split, or of the three parts.

    Args:
        sets: With ``__len__`` and ``__getitem__``, or with ``__iter__``, which are read once.
        names: Of each, for messages.
        inputs, targets, task, take, pad, stream, workers: As for ``dataset``.

    Raises:
        UserError: For items that cannot be trained on.
    """
    whole("workers", workers, 0)
    name = type(sets[0]).__name__
    sets = _by_number(sets, names, (inputs, targets), take, on_disk=str(stream).lower() == "true")
    reader = ItemReader(sets, names, inputs, targets)
    needed = _COPIES * len(reader) * reader.row_bytes
    streamed = is_streamed(
        stream, needed, f"{len(reader)} items of {reader.row_bytes} bytes", lambda _: "a smaller data set"
    )
    read, target = _read_once(reader, workers, keep=not streamed)
    found = targets_of(target, task)
    tokens = reader.dtype == np.int64
    return Source(
        task=found.task,
        numeric=np.empty((0, 0)),
        numeric_names=names_of(reader.several) if reader.several else input_names(reader),
        targets=found.targets,
        target_names=found.target_names,
        class_names=found.class_names,
        shape=reader.shape if len(reader.shape) > 1 or tokens else None,
        homogeneous=len(reader.shape) > 1,
        tokens=tokens,
        pad=padding(pad, tokens),
        several=reader.several,
        standardize_target=True,
        name=name,
        reader=reader if read is None else ArrayReader(read),
        stream=streamed,
        workers=workers if streamed else 0,
        parts=_parts(sets) if len(sets) > 1 else None,
    )


def _nodes(parts: Mapping[str, Mapping[str, Any] | None], one: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the node of each data set by its key: ``data``, or ``data.train`` and so on."""
    given = {name: node for name, node in parts.items() if node and node.get("_target_") is not None}
    if not given and one["_target_"] is None:
        raise UserError(
            "data=dataset needs a class of yours: data._target_=my_package.MyDataset, or one for each part: "
            "data.train._target_=..., data.val._target_=... and data.test._target_=..."
        )
    if not given:
        return {"data": one}
    if one["_target_"] is not None:
        raise UserError("data._target_ is split into parts, and data.train._target_ is one: give one or the other")
    if extra := [name for name in one if name != "_target_"]:
        raise UserError(f"data.{extra[0]}: give the arguments of each part by +data.train.{extra[0]}=... and so on")
    if missing := [name for name in PARTS if name not in given]:
        raise UserError(f"data.{missing[0]}._target_ is missing: give all of data.train, data.val and data.test")
    return {f"data.{name}": given[name] for name in PARTS}


def _built(node: Mapping[str, Any], key: str) -> Any:
    """Return the data set that a node describes."""
    cls, target = locate(node["_target_"], object, key), node["_target_"]
    if not is_iterable(cls) and not (hasattr(cls, "__len__") and hasattr(cls, "__getitem__")):
        raise UserError(
            f"{key}._target_={target} has no __len__ and __getitem__, and no __iter__: write a class that has both, so "
            "that items are read by their number, or one that can be iterated"
        )
    try:
        return construct(cls, {name: value for name, value in node.items() if name != "_target_"}, key)
    except (OSError, LookupError, RuntimeError, AttributeError) as error:
        raise UserError(f"{key}._target_={target} cannot be built ({describe_error(error)})") from error


def _by_number(sets: Sequence[Any], names: Sequence[str], keys: Keys, take: int | None, on_disk: bool) -> Sequence[Any]:
    """Return data sets whose items can be asked for by number; others are read."""
    if take is not None:
        whole("take", take, 1)
        if not any(is_iterable(type(each)) for each in sets):
            raise UserError(
                f"data.take={take} is of data sets that are only iterated, and {names[0]} has a length: leave it out, "
                "or train on fewer items by data.train_size"
            )
    pairs = zip(sets, names, strict=True)
    return [IterableItems(each, name, keys, take, on_disk) if is_iterable(type(each)) else each for each, name in pairs]


def _parts(sets: Sequence[Any]) -> tuple[Integers, Integers, Integers]:
    """Return the row numbers of each part."""
    ends = list(accumulate(map(len, sets), initial=0))
    train, val, test = (np.arange(first, end) for first, end in pairwise(ends))
    return train, val, test


def _read_once(reader: ItemReader, workers: int, keep: bool) -> tuple[Array | None, Array]:
    """Read every item once; return all inputs, if they are to be kept, and all targets."""
    inputs = np.empty((len(reader), *reader.shape), dtype=reader.dtype) if keep else None
    numbers = np.arange(len(reader))
    blocks = [numbers[first : first + _BLOCK] for first in range(0, len(numbers), _BLOCK)]
    ahead, targets = ReadAhead(reader, workers), list[Array]()
    for rows, (read, found) in zip(blocks, ahead.read(blocks, "items" if keep else "targets"), strict=True):
        if inputs is not None:
            inputs[rows] = read
        targets.append(found)
    try:
        return inputs, np.concatenate(targets)
    except ValueError as error:
        raise UserError(f"the targets of the items have different shapes ({error}): give all one shape") from error
