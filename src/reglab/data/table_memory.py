"""Limits on what a data file may grow to in memory: a small compressed file can hold more than the machine."""

import gzip
import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from reglab.core.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

_SHARE = 0.5  # of the free memory, for what a file holds: columns and parts are made of it beside it
_CHUNK = 1 << 24
_NUMBER = 8  # bytes of a number in a column
_ROWS = 1_024  # read at once where texts may be long


def most_bytes() -> int:
    """Return how many bytes a data file may hold when it is decompressed, by the free memory."""
    return int(psutil.virtual_memory().available * _SHARE)


def check_size(path: object, size: int) -> None:
    """Check that the decompressed content of a file fits into the memory.

    Args:
        path: Of the file, for the message.
        size: Bytes of it, or a lower bound.

    Raises:
        UserError: Where it does not.
    """
    most = most_bytes()
    if size > most:
        raise _too_large(path, size, most)


def _too_large(path: object, size: int, most: int) -> UserError:
    return UserError(
        f"data.path={path} holds {size / 1e9:.1f} GB or more when it is decompressed, and {most / 1e9:.1f} GB, half of "
        "the free memory, are the most that is read: take fewer rows or columns of it, or a larger machine"
    )


def read_bytes(file: Path) -> bytes:
    """Return the content of a file, decompressed where its name ends in ``.gz``.

    Raises:
        UserError: Where it does not fit into the memory; it is decompressed no further.
    """
    check_size(file, file.stat().st_size)
    if file.suffix.lower() != ".gz":
        return file.read_bytes()
    content, most = io.BytesIO(), most_bytes()
    with gzip.open(file) as stream:
        while chunk := stream.read(_CHUNK):
            content.write(chunk)
            if content.tell() > most:
                raise _too_large(file, content.tell(), most)
    return content.getvalue()


def read_columns(path: str, opened: "ParquetFile") -> "pa.Table":
    """Return all columns of a Parquet file.

    Repeated values take next to nothing in the file, and their whole length in memory.

    Raises:
        UserError: Where they do not fit into the memory; no more is read then.
    """
    import pyarrow as pa

    schema, metadata = opened.schema_arrow, opened.metadata
    check_size(path, metadata.num_rows * metadata.num_columns * _NUMBER)
    check_size(path, sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups)))
    if all(pa.types.is_primitive(field.type) for field in schema):
        return opened.read()
    batches, size, most = [], 0, most_bytes()  # before the batches take some of it
    for batch in opened.iter_batches(_ROWS):
        batches.append(batch)
        size += batch.nbytes
        if size > most:
            raise _too_large(path, size, most)
    return pa.Table.from_batches(batches, schema)


def check_archive(path: str, file: Path) -> None:
    """Check that the members of a zip file, such as a workbook, fit into the memory.

    Raises:
        UserError: Where they do not.
    """
    with zipfile.ZipFile(file) as archive:
        check_size(path, sum(member.file_size for member in archive.infolist()))
