"""Items of a data set that is only iterated, read once: into memory, or a temporary file of rows."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import psutil

from reglab.core.describe_error import describe_error
from reglab.core.errors import UserError
from reglab.data.array_reader import ArrayReader
from reglab.data.item_reader import Keys, ReadItem, converted
from reglab.data.reader import Array, Reader
from reglab.data.several import Input
from reglab.data.spool import Spool

_BLOCK = 256  # items
_SHARE = 1 / 4  # of the free memory: inputs are there up to three times while they are made


def is_iterable(kind: type) -> bool:
    """Return whether items of a class come one after the other, and cannot be asked for by number."""
    torch_iterable = any(f"{base.__module__}.{base.__name__}" == _TORCH for base in kind.__mro__)
    return hasattr(kind, "__iter__") and (torch_iterable or not hasattr(kind, "__getitem__"))


_TORCH = "torch.utils.data.dataset.IterableDataset"


class IterableItems:
    """The items of an iterable data set, by number in the order in which it gives them.

    Args:
        items: Is iterated once, and asked for its first item once more.
        name: For messages.
        keys: Of inputs and target in items that are mappings.
        take: How many items are read; None: all.
        on_disk: Inputs are kept in a temporary file rather than in memory.

    Raises:
        UserError: For items that do not fit, an item that cannot be used, and another first item in
            a second reading.
    """

    def __init__(self, items: Any, name: str, keys: Keys, take: int | None, on_disk: bool) -> None:
        self._items, self._name, self._keys, self._take = items, name, keys, take
        self._targets: list[Array] = []
        self._several: tuple[Input, ...] = ()
        if on_disk:
            if take is None and not hasattr(type(items), "__len__"):
                raise UserError(
                    f"{name} does not say how many items it has, and without an end they would fill the disk: say how "
                    "many are read at most, as in data.take=1000000, or give it a __len__"
                )
            self._inputs: Reader = Spool(self._blocks(None), None, f"the items of {name}")
        else:
            limit = int(psutil.virtual_memory().available * _SHARE)
            self._inputs = ArrayReader(np.concatenate(list(self._blocks(limit)) or [np.empty((0, 1))]))
        if self._targets:
            self._check_same_again()

    def __len__(self) -> int:
        return len(self._targets)

    def __getitem__(self, number: int) -> ReadItem:
        return ReadItem(self._inputs.read(np.array([number]))[0], self._targets[number], self._several)

    def _blocks(self, limit: int | None) -> Iterator[Array]:
        """Yield inputs in blocks, and keep the targets."""
        read, left, taken = islice(self._read(), self._take), limit, 0
        while block := list(islice(read, _BLOCK)):
            inputs = np.stack([item.inputs for item in block])
            self._targets += [item.target for item in block]
            self._several = block[0].several
            taken += inputs.nbytes
            if left is not None and taken > left:
                raise UserError(
                    f"{self._name} gave {len(self)} items of {taken / 1e9:.1f} GB and has more, which do not fit into "
                    f"memory: say how many are read, as in data.take={len(self)}; with data.stream=true beside it they "
                    "are written to a temporary file, and may be more"
                )
            yield inputs

    def _read(self) -> Iterator[ReadItem]:
        shape: Any = None
        items = self._begun()
        for number in range(2**63):
            what = f"item {number} of {self._name}"
            try:
                item = next(items)
            except StopIteration:
                return
            except Exception as error:
                raise UserError(f"{what} cannot be read ({describe_error(error)})") from error
            read = converted(item, self._keys, what)
            found = (read.inputs.dtype, read.inputs.shape, read.several)
            if shape is not None and found != shape:
                raise UserError(
                    f"the inputs of {what} are {found[0]} {list(found[1])}, and those of item 0 {shape[0]} "
                    f"{list(shape[1])}: all items must be alike; cut or pad them in the data set"
                )
            shape = found
            yield read

    def _begun(self) -> Iterator[Any]:
        try:
            return iter(self._items)
        except Exception as error:
            raise UserError(f"{self._name} cannot be iterated ({describe_error(error)})") from error

    def _check_same_again(self) -> None:
        """Refuse items that are drawn at random; what is read up cannot be asked."""
        again, first = next(self._read(), None), self[0]
        if again and not (np.array_equal(first.inputs, again.inputs) and np.array_equal(first.target, again.target)):
            raise UserError(
                f"the first item of {self._name} differs between two readings: shuffled or randomly transformed items "
                "cannot be read again by a run that is resumed. Give them in one order, as they are; reglab shuffles"
            )
