"""Reader of the items of map-style data sets: pairs of inputs and target, or mappings."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from reglab.core.describe_error import describe_error
from reglab.core.errors import UserError, nearest
from reglab.data.reader import Array, Reader
from reglab.data.source import Integers

Keys = tuple[str | int | None, str | int | None]  # of inputs and target


class ReadItem(NamedTuple):
    """Inputs and target of an item, as arrays."""

    inputs: Array
    target: Array


class ItemReader(Reader):
    """Inputs and targets of items, one data set behind the other.

    Inputs of whole numbers are token ids, but bytes are quantities; a picture is [channels, height,
    width].

    Args:
        sets: With ``__len__`` and ``__getitem__``.
        names: Of each, for messages.
        inputs, targets: The keys of an item that is a mapping; None: an item is a pair.

    Raises:
        UserError: For items of another form, and where the first differs between two readings.
    """

    def __init__(
        self, sets: Sequence[Any], names: Sequence[str], inputs: str | int | None, targets: str | int | None
    ) -> None:
        self.sets, self.names = sets, names
        self.keys: Keys = (inputs, targets)
        self._ends = np.cumsum([len(each) for each in sets])
        for name, each in zip(names, sets, strict=True):
            if not len(each):
                raise UserError(f"{name} has no items: its __len__ returned 0")
        first, target = self.item(0)
        self.shape, self.dtype = first.shape, first.dtype
        again = self.item(0)
        if not (np.array_equal(first, again[0]) and np.array_equal(target, again[1])):
            raise UserError(
                f"item 0 of {names[0]} differs between two readings: random transforms would change both sides of the "
                "gap, and no run could be repeated. Leave them out of the data set; regularizer=[mixup] and layers of "
                "the model, such as dropout, draw anew in each step"
            )

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, rows: Integers) -> Array:
        return np.stack([self.item(int(row))[0] for row in rows])

    def items(self, rows: Integers) -> tuple[Array, Array]:
        """Return inputs, ``[rows, *shape]``, and targets, ``[rows, ...]``."""
        read = [self.item(int(row)) for row in rows]
        targets = [target for _, target in read]
        other = next((target for target in targets if target.shape != targets[0].shape), None)
        if other is not None:
            raise UserError(
                f"the targets of the items are {list(targets[0].shape)} and {list(other.shape)}: give all one shape"
            )
        return np.stack([inputs for inputs, _ in read]), np.stack(targets)

    def item(self, row: int) -> tuple[Array, Array]:
        """Return inputs and target of one item."""
        number = int(np.searchsorted(self._ends, row, side="right"))
        within = row - (int(self._ends[number - 1]) if number else 0)
        what = f"item {within} of {self.names[number]}"
        try:
            item = self.sets[number][within]
        except Exception as error:
            raise UserError(f"{what} cannot be read ({describe_error(error)})") from error
        values, target = converted(item, self.keys, what)
        if hasattr(self, "shape") and (values.shape != self.shape or values.dtype != self.dtype):
            raise UserError(
                f"the inputs of {what} are {values.dtype} {list(values.shape)}, and those of item 0 {self.dtype} "
                f"{list(self.shape)}: all items must be alike; cut or pad them in the data set"
            )
        return values, target


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
    inputs, target = _pair(item, keys, what)
    values = _numbers(inputs, f"the inputs of {what}")
    return ReadItem(values, np.asarray(target.cpu() if isinstance(target, Tensor) else target))


def _pair(item: Any, keys: Keys, what: str) -> tuple[Any, Any]:
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
