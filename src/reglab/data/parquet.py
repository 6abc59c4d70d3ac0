"""Rows of Parquet files for networks: columns of numbers, or of lists of fixed length."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from reglab.core.errors import UserError
from reglab.data.array_files import input_names
from reglab.data.array_reader import ArrayReader
from reglab.data.checks import flag, padding, whole
from reglab.data.parquet_columns import ParquetColumns, parquet_files
from reglab.data.read_before import identity_of, read_before
from reglab.data.reader import Array, Reader
from reglab.data.source import Source
from reglab.data.spool import Spool
from reglab.data.steering import steered
from reglab.data.stream_choice import is_streamed
from reglab.data.table_target import TaskOrTasks, is_dense, targets_of

Names = str | Sequence[str] | None
_COPIES = 3  # of the raw rows, while inputs are made of them


def parquet(
    *,
    path: str | None = None,
    inputs: Names = None,
    targets: Names = None,
    task: TaskOrTasks = "auto",
    tokens: bool = False,
    pad: float | None = None,
    group: str | None = None,
    time: str | None = None,
    sample_weight: str | None = None,
    stream: bool | str = "auto",
    workers: int = 1,
) -> Source:
    """Return the rows of one or several Parquet files.

    Args:
        path: A file, a folder of files, or a pattern.
        inputs: Columns, or patterns of them; None: all that are nothing else. Numbers make
            ``[rows, columns]``, lists of fixed length ``[rows, *list]``, or ``[rows, columns,
            *list]``.
        targets: Columns, or patterns.
        task: ``auto``, or a name of ``reglab.tasks``.
        tokens: The inputs are token ids, >= 0.
        pad: The value of what is padding among the inputs, and stays so.
        group, time, sample_weight: Columns that steer the split and the weights.
        stream: Read the inputs anew in each epoch, from a temporary file of rows, rather than keep
            them in memory; ``auto``: where they do not fit into the free memory.
        workers: Processes that read streamed inputs.

    Raises:
        UserError: For files and columns that cannot be used.
    """
    if path is None or targets is None:
        raise UserError("data=parquet needs files and a column: data.path=rows.parquet data.targets=label")
    columns = ParquetColumns(parquet_files(str(path)))
    whole("workers", workers, 0)
    named = columns.chosen(_names(targets), "targets")
    given = {"group": group, "time": time, "sample_weight": sample_weight}
    steering = {key: str(name) for key, name in given.items() if name is not None}
    for key, name in steering.items():
        columns.chosen([name], key)
    used = {*named, *steering.values()}
    chosen = (
        columns.chosen(_names(inputs), "inputs") if inputs else [name for name in columns.kinds if name not in used]
    )
    if both := [name for name in chosen if name in used]:
        raise UserError(f"data.inputs has {both[0]!r}, which is a target, group, time or weight: leave it out")
    if not chosen or not columns.rows:
        raise UserError(f"data.path={path} has no {'input column' if columns.rows else 'rows'}: choose other files")
    reader, streamed = _reader(columns, chosen, flag("tokens", tokens), stream)
    target = targets_of(_target_values(columns, named, task), task)
    several = len(reader.shape) > 1
    steer = {key: columns.values(name) for key, name in steering.items()}
    rows = columns.rows
    return Source(
        task=target.task,
        numeric=np.empty((0, 0)),
        numeric_names=tuple(chosen) if reader.shape == (len(chosen),) else input_names(reader),
        targets=target.targets,
        target_names=target.target_names if len(named) == 1 else tuple(named),
        class_names=target.class_names,
        columns=(tuple(chosen), tuple(named)),
        shape=reader.shape if several or tokens else None,
        homogeneous=several,
        tokens=tokens,
        pad=padding(pad, tokens),
        standardize_target=True,
        **steered(steer, rows)._asdict(),
        name=Path(str(path)).stem,
        reader=reader,
        stream=streamed,
        workers=workers if streamed else 0,
    )


def _reader(columns: ParquetColumns, names: Sequence[str], tokens: bool, stream: bool | str) -> tuple[Reader, bool]:
    """Return the reader of the inputs, of memory or of a file of rows, and whether they are streamed."""
    first = next(columns.blocks(names, tokens))
    needed = _COPIES * columns.rows * ArrayReader(first).row_bytes
    what = f"{columns.rows} rows of {' x '.join(map(str, first.shape[1:]))} values"
    streamed = is_streamed(stream, needed, what, lambda share: f"fewer rows ({int(columns.rows * share)} would fit)")
    if streamed:
        identity = f"{identity_of(columns.files)} {list(names)} {tokens}"
        return read_before(f"spool {identity}", lambda: Spool(columns.blocks(names, tokens), identity, what)), True
    values, filled = np.empty((columns.rows, *first.shape[1:]), dtype=first.dtype), 0
    for block in columns.blocks(names, tokens):
        values[filled : filled + len(block)] = block
        filled += len(block)
    return ArrayReader(values), False


def _target_values(columns: ParquetColumns, names: Sequence[str], task: TaskOrTasks) -> Array:
    """Return the targets, ``[rows]`` or ``[rows, columns]``, or ``[rows, ...]`` where the task has one
    at each position.
    """
    read = [columns.values(name) for name in names]
    values = read[0] if len(read) == 1 else np.stack(read, axis=1)
    if values.ndim > 2 and not is_dense(task):
        raise UserError(
            f"data.targets={names[0]} holds {list(values.shape)}: a target at each position needs a task that has "
            "them, such as data.task=segmentation"
        )
    return values


def _names(given: Names) -> list[str]:
    """Return the names or patterns that an option gives."""
    return [str(given)] if isinstance(given, str | int) else [str(name) for name in given or ()]
