"""Reader of the items of map-style data sets: pairs of inputs and target, or mappings."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from reglab.core.describe_error import describe_error
from reglab.core.errors import UserError, nearest
from reglab.data.reader import Array, Reader
from reglab.data.several import Input
from reglab.data.source import Integers

Key = str | int | None
Keys = tuple[Key | Sequence[str], Key]  # of inputs, one or several, and target


class ReadItem(NamedTuple):
    """Inputs and target of an item, as arrays.

    Args:
        several: The inputs that the values are, one behind the other; empty: it is one.
    """

    inputs: Array
    target: Array
    several: tuple[Input, ...] = ()


class ItemReader(Reader):
    """Inputs and targets of items, one data set behind the other.

    Inputs of whole numbers are token ids, but bytes are quantities; a picture is [channels, height,
    width].

    Args:
        sets: With ``__len__`` and ``__getitem__``.
        names: Of each, for messages.
        inputs, targets: The keys of an item that is a mapping, of one or several inputs; None: an
            item is a pair.

    Raises:
        UserError: For items of another form, and where the first differs between two readings.
    """

    def __init__(self, sets: Sequence[Any], names: Sequence[str], inputs: Key | Sequence[str], targets: Key) -> None:
        self.sets, self.names = sets, names
        self.keys: Keys = (inputs, targets)
        self._ends = np.cumsum([len(each) for each in sets])
        for name, each in zip(names, sets, strict=True):
            if not len(each):
                raise UserError(f"{name} has no items: its __len__ returned 0")
        first = self.item(0)
        self.shape, self.dtype, self.several = first.inputs.shape, first.inputs.dtype, first.several
        again = self.item(0)
        if not (np.array_equal(first.inputs, again.inputs) and np.array_equal(first.target, again.target)):
            raise UserError(
                f"item 0 of {names[0]} differs between two readings: random transforms would change both sides of the "
                "gap, and no run could be repeated. Leave them out of the data set; regularizer=[mixup] and layers of "
                "the model, such as dropout, draw anew in each step"
            )

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, rows: Integers) -> Array:
        return np.stack([self.item(int(row)).inputs for row in rows])

    def items(self, rows: Integers) -> tuple[Array, Array]:
        """Return inputs, ``[rows, *shape]``, and targets, ``[rows, ...]``."""
        read = [self.item(int(row)) for row in rows]
        targets = [item.target for item in read]
        other = next((target for target in targets if target.shape != targets[0].shape), None)
        if other is not None:
            raise UserError(
                f"the targets of the items are {list(targets[0].shape)} and {list(other.shape)}: give all one shape"
            )
        return np.stack([item.inputs for item in read]), np.stack(targets)

    def item(self, row: int) -> ReadItem:
        """Return inputs and target of one item."""
        number = int(np.searchsorted(self._ends, row, side="right"))
        within = row - (int(self._ends[number - 1]) if number else 0)
        what = f"item {within} of {self.names[number]}"
        try:
            item = self.sets[number][within]
        except Exception as error:
            raise UserError(f"{what} cannot be read ({describe_error(error)})") from error
        read = converted(item, self.keys, what)
        values = read.inputs
        if hasattr(self, "shape") and (values.shape != self.shape or values.dtype != self.dtype):
            raise UserError(
                f"the inputs of {what} are {values.dtype} {list(values.shape)}, and those of item 0 {self.dtype} "
                f"{list(self.shape)}: all items must be alike; cut or pad them in the data set"
            )
        if hasattr(self, "several") and read.several != self.several:
            raise UserError(
                f"the inputs of {what} are {_shapes(read.several)}, and those of item 0 {_shapes(self.several)}: all "
                "items must be alike; cut or pad them in the data set"
            )
        return read


def converted(item: Any, keys: Keys, what: str) -> ReadItem:
    """Return inputs and target of an item as arrays.

    Args:
        item: A pair of both, or a mapping.
        keys: Of a mapping.
        what: The item, for messages.

    Raises:
        UserError: For an item of another form, and inputs that are no numbers.
    """
    if isinstance(item, ReadItem):
        return item
    names = keys[0]
    if isinstance(names, Sequence) and not isinstance(names, str):
        return _joined(item, names, keys[1], what)
    inputs, target = _pair(item, names, keys[1], what)
    return ReadItem(_numbers(inputs, f"the inputs of {what}"), _target(target))


def _joined(item: Any, names: Sequence[str], key: Key, what: str) -> ReadItem:
    """Return the values of several inputs, one behind the other."""
    if not names:
        raise UserError("data.inputs is empty: name the key of the inputs, or several")
    read = {str(name): _pair(item, name, key, what) for name in names}
    arrays = {name: _numbers(inputs, f"the inputs {name} of {what}") for name, (inputs, _) in read.items()}
    for name, array in arrays.items():
        if array.dtype == np.int64:
            raise UserError(
                f"the inputs {name} of {what} are whole numbers, token ids: beside other inputs they are not taken; "
                "make quantities of them in the data set, as float32"
            )
    values = np.concatenate([array.reshape(-1).astype(np.float32) for array in arrays.values()])
    (_, target), *_ = read.values()
    return ReadItem(values, _target(target), tuple(Input(name, array.shape) for name, array in arrays.items()))


def _target(target: Any) -> Array:
    return np.asarray(target.cpu() if isinstance(target, Tensor) else target)


def _shapes(several: Sequence[Input]) -> str:
    return ", ".join(f"{each.name} {list(each.shape)}" for each in several)


def _pair(item: Any, inputs: Key, targets: Key, what: str) -> tuple[Any, Any]:
    keys = (inputs, targets)
    if isinstance(item, Mapping):
        for name, key in zip(("inputs", "targets"), keys, strict=True):
            if key is None:
                known = list(map(str, item))
                raise UserError(
                    f"{what} is a mapping of {', '.join(known)}: say which is which, as in data.{name}={known[0]}"
                )
            if key not in item:
                raise UserError(f"data.{name}={key} is no key of {what}: {nearest(str(key), list(map(str, item)))}")
        return item[keys[0]], item[keys[1]]
    if isinstance(item, Sequence) and len(item) == 2:
        if keys != (None, None):
            raise UserError(f"{what} is a pair, and data.inputs and data.targets name keys: leave them out")
        return item[0], item[1]
    raise UserError(
        f"{what} is a {type(item).__name__}: an item must be a pair (inputs, target), or a mapping whose keys "
        "data.inputs and data.targets name"
    )


def _numbers(inputs: Any, what: str) -> Array:
    """Return inputs as an array: bytes, float32, or int64 token ids."""
    picture = hasattr(inputs, "getbands")  # of PIL
    try:
        values = inputs.detach().cpu().numpy() if isinstance(inputs, Tensor) else np.asarray(inputs)
    except (TypeError, ValueError) as error:
        raise UserError(f"{what} are no array of numbers ({error})") from error
    if values.dtype.kind not in "fiub" or values.ndim == 0:
        raise UserError(f"{what} are {values.dtype} {list(values.shape)}: they must be an array of numbers")
    if picture:
        values = values[None] if values.ndim == 2 else values.transpose(2, 0, 1)
    if values.dtype == np.uint8:
        return values
    return values.astype(np.float32 if values.dtype.kind in "fb" else np.int64, copy=False)
