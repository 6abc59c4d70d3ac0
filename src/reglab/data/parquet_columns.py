"""Columns of Parquet files as arrays, block by block: numbers, and lists of fixed length."""

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reglab.core.describe_error import describe_error
from reglab.core.errors import UserError, nearest
from reglab.data.reader import Array

if TYPE_CHECKING:
    import pyarrow as pa

_SUFFIXES = (".parquet", ".pq")
_BLOCK = 1024  # rows that are decoded at a time
_BUFFER = 2**20  # bytes of a column that are read at a time


def parquet_files(path: str) -> list[Path]:
    """Return the files that a path names: one, those in a folder, or those that match a pattern.

    Args:
        path: As the user gave it.

    Raises:
        UserError: If there are none.
    """
    given = Path(path).expanduser()
    if given.is_file():
        if given.name.endswith((".csv", ".csv.gz", ".tsv", ".txt", ".jsonl", ".ndjson", ".xlsx")):
            raise UserError(
                f"data.path={path} is no Parquet file: data=table data.path={path} data.target=COLUMN reads it"
            )
        return [given]
    if given.is_dir():
        found = [each for each in given.rglob("*") if each.suffix in _SUFFIXES and not each.name.startswith((".", "_"))]
    else:
        found = [each for each in given.parent.glob(given.name) if each.is_file()] if given.parent.is_dir() else []
    if not found:
        raise UserError(
            f"data.path={path} has no Parquet files: give a file, a folder of them, or a pattern, such as "
            "part-*.parquet"
        )
    return sorted(found)


class ParquetColumns:
    """Reads columns of files that have the same ones.

    Args:
        files: In the order of their rows.

    Raises:
        UserError: For a file that is not Parquet, or has other columns than the first.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = list(files)
        self.kinds: dict[str, Any] = {}
        self.rows = 0
        for file in self.files:
            with _opened(file) as opened:
                kinds = {field.name: field.type for field in opened.schema_arrow}
                self.rows += opened.metadata.num_rows
            self.kinds = self.kinds or kinds
            if other := [name for name, kind in self.kinds.items() if kinds.get(name) != kind]:
                raise UserError(
                    f"{file} has {kinds.get(other[0], 'no column')} for {other[0]!r}, and {self.files[0]} "
                    f"{self.kinds[other[0]]}: give files with the same columns"
                )

    def chosen(self, patterns: Sequence[str], key: str) -> list[str]:
        """Return the columns that names or patterns choose, in the order of the file for each.

        Args:
            patterns: Such as ``pixel_*``.
            key: The option, for messages.

        Raises:
            UserError: For one that chooses none.
        """
        names: dict[str, None] = {}
        for pattern in patterns:
            found = [pattern] if pattern in self.kinds else [name for name in self.kinds if fnmatchcase(name, pattern)]
            if not found:
                raise UserError(f"data.{key}={pattern} is no column: {nearest(pattern, self.kinds)}")
            names |= dict.fromkeys(found)
        return list(names)

    def values(self, name: str) -> Array:
        """Return a whole column, ``[rows]``, or ``[rows, ...]`` of lists."""
        return np.concatenate([_array(batch.column(0), name, first) for first, batch in self._batches([name])])

    def blocks(self, names: Sequence[str], tokens: bool) -> Iterator[Array]:
        """Yield blocks of rows: ``[rows, columns]`` of numbers; of lists ``[rows, *list]``, and
        ``[rows, columns, *list]`` where there are several columns.

        Args:
            names: Of the columns.
            tokens: They are token ids.

        Raises:
            UserError: For what is no number, and lists of several lengths.
        """
        dtype = self._dtype(names, tokens)
        shape: tuple[int, ...] | None = None
        for first, batch in self._batches(names):
            arrays = {name: _array(batch.column(name), name, first) for name in names}
            block = _stacked(arrays, dtype)
            if shape is not None and block.shape[1:] != shape:
                raise UserError(
                    f"the rows from {first} on are {list(block.shape[1:])}, and those before {list(shape)}: pad the "
                    "lists to one length"
                )
            shape = block.shape[1:]
            yield block

    def _batches(self, names: Sequence[str]) -> Iterator[tuple[int, "pa.RecordBatch"]]:
        """Yield blocks of columns, each with the number of its first row."""
        first = 0
        for file in self.files:
            with _opened(file) as opened:
                try:
                    for batch in opened.iter_batches(_BLOCK, columns=list(names), use_threads=False):
                        yield first, batch
                        first += batch.num_rows
                except (OSError, ValueError) as error:
                    raise UserError(f"{file} cannot be read ({describe_error(error)}): write it anew") from error

    def _dtype(self, names: Sequence[str], tokens: bool) -> np.dtype[Any]:
        """Return what holds the numbers of all columns."""
        from pyarrow import types

        found = []
        for name in names:
            kind = self.kinds[name]
            while types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
                kind = kind.value_type
            if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
                raise UserError(
                    f"the column {name!r} holds {self.kinds[name]}, of which no input is made: choose columns of "
                    "numbers by data.inputs=[...], or take data=table, which makes inputs of categories, dates and text"
                )
            found.append(np.dtype(kind.to_pandas_dtype()))
        dtype = np.result_type(*found)
        if tokens:
            if dtype.kind not in "iu":
                raise UserError(f"data.tokens=true, but the inputs hold {dtype}: token ids are whole numbers")
            return np.dtype(np.int64)
        small = dtype == np.uint8 or dtype.itemsize <= 2
        return dtype if dtype == np.uint8 or dtype.kind == "f" else np.dtype(np.float32 if small else np.float64)


def _stacked(arrays: Mapping[str, Array], dtype: np.dtype[Any]) -> Array:
    shapes = {array.shape[1:] for array in arrays.values()}
    if len(shapes) > 1:
        one, other = (next(name for name, each in arrays.items() if each.shape[1:] == shape) for shape in [*shapes][:2])
        raise UserError(
            f"the columns {one!r} and {other!r} hold rows of different shapes ({list(arrays[one].shape[1:])} and "
            f"{list(arrays[other].shape[1:])}): choose columns of one shape by data.inputs=[...]"
        )
    if len(arrays) == 1 and shapes != {()}:
        (only,) = arrays.values()
        return only.astype(dtype, copy=False)
    return np.stack([array.astype(dtype, copy=False) for array in arrays.values()], axis=1)


def _opened(file: Path) -> Any:
    from pyarrow import ArrowInvalid, parquet

    try:
        return parquet.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER)
    except (OSError, ArrowInvalid) as error:
        raise UserError(f"{file} is no Parquet file ({describe_error(error)})") from error


def _array(column: "pa.Array", name: str, first: int) -> Array:
    """Return the values of a block of a column: lists as further dimensions, texts as objects."""
    from pyarrow import types

    if column.null_count:
        row = first + int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise UserError(
            f"the column {name!r} has no value in row {row}, counted from 0: fill it in, leave the row out, or take "
            "data=table, which fills it in"
        )
    kind = column.type
    if types.is_fixed_size_list(kind):
        inner = _array(column.flatten(), name, first)
        return inner.reshape(len(column), kind.list_size, *inner.shape[1:])
    if types.is_list(kind) or types.is_large_list(kind):
        lengths = np.diff(column.offsets.to_numpy())
        if len(lengths) and (lengths != lengths[0]).any():
            row = int(np.flatnonzero(lengths != lengths[0])[0])
            raise UserError(
                f"the lists of the column {name!r} have different lengths ({lengths[row]} in row {first + row}, "
                f"counted from 0, and {lengths[0]} before): pad them to one length"
            )
        inner = _array(column.flatten(), name, first)
        return inner.reshape(len(column), -1, *inner.shape[1:])
    values: Array = column.to_numpy(zero_copy_only=False)
    return values
