"""Arrays on disk: inputs and targets in ``.npy`` files, which may be larger than the memory."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from reglab.core.errors import UserError
from reglab.data.array_reader import FileReader, mapped
from reglab.data.checks import flag, padding, whole
from reglab.data.reader import Reader
from reglab.data.several import Input, JoinedReader, names_of
from reglab.data.source import Source
from reglab.data.steering import Steering, steered
from reglab.data.stream_choice import is_streamed
from reglab.data.table_target import TaskOrTasks, is_dense, targets_of


def arrays(
    *,
    inputs: str | Sequence[str] | None = None,
    targets: str | None = None,
    task: TaskOrTasks = "auto",
    tokens: bool = False,
    pad: float | None = None,
    group: str | None = None,
    time: str | None = None,
    sample_weight: str | None = None,
    stream: bool | str = "auto",
    workers: int = 1,
) -> Source:
    """Return the rows of two ``.npy`` files, as ``numpy.save`` writes them.

    Args:
        inputs: ``[rows, columns]`` or ``[rows, ...]``, numbers; several files are several inputs.
        targets: ``[rows]`` or ``[rows, columns]``, or ``[rows, ...]`` where the task has one at each
            position, which are read into memory.
        task: ``auto``, or a name of ``reglab.tasks``.
        tokens: The inputs are token ids, >= 0.
        pad: The value of what is padding among the inputs, and stays so.
        group, time, sample_weight: Files of ``[rows]`` that steer the split and the weights.
        stream: Read the inputs anew in each epoch, rather than once into memory; ``auto``: where
            they do not fit into the free memory.
        workers: Processes that read streamed inputs.

    Raises:
        UserError: For files that cannot be read, or do not fit together.
    """
    if inputs is None or targets is None:
        raise UserError("data=arrays needs two files that numpy.save wrote: data.inputs=x.npy data.targets=y.npy")
    reader, several = _reader(inputs)
    values = np.array(mapped(Path(str(targets)).expanduser(), "targets"))
    if (values.ndim not in (1, 2) and not is_dense(task)) or values.ndim == 0 or len(values) != len(reader):
        raise UserError(
            f"data.targets holds {list(values.shape)} and data.inputs {[len(reader), *reader.shape]}: targets must be "
            "[rows] or [rows, columns], with as many rows as the inputs"
        )
    if flag("tokens", tokens) and reader.dtype.kind not in "iu":
        raise UserError(f"data.tokens=true, but data.inputs holds {reader.dtype}: token ids are whole numbers")
    target = targets_of(values, task)
    return Source(
        task=target.task,
        numeric=np.empty((0, 0)),
        numeric_names=names_of(several) if several else input_names(reader),
        targets=target.targets,
        target_names=target.target_names,
        class_names=target.class_names,
        shape=reader.shape if len(reader.shape) > 1 or tokens else None,
        homogeneous=len(reader.shape) > 1,
        tokens=tokens,
        pad=padding(pad, tokens),
        several=several,
        **_steering({"group": group, "time": time, "sample_weight": sample_weight}, len(reader))._asdict(),
        standardize_target=True,
        name=several[0].name if several else Path(str(inputs)).stem,
        reader=reader,
        stream=is_streamed(
            stream,
            len(reader) * reader.row_bytes,
            f"{len(reader)} rows of {' x '.join(map(str, reader.shape))} values",
            lambda share: f"fewer rows ({int(len(reader) * share)} would fit)",
        ),
        workers=whole("workers", workers, 0),
    )


def _reader(inputs: str | Sequence[str]) -> tuple[Reader, tuple[Input, ...]]:
    """Return the reader of one file, or of several, and then what they are."""
    several = isinstance(inputs, Sequence) and not isinstance(inputs, str)
    paths = [Path(str(path)).expanduser() for path in (inputs if several else [inputs])]
    if not paths:
        raise UserError("data.inputs is empty: name a file that numpy.save wrote, or several")
    readers = [FileReader(path, "inputs") for path in paths]
    if len(readers) == 1:
        return readers[0], ()
    joined = JoinedReader(readers, [path.stem for path in paths])
    return joined, joined.inputs


def _steering(paths: Mapping[str, str | None], rows: int) -> Steering:
    """Return what the files of groups, times and weights hold, by option."""
    given = {key: path for key, path in paths.items() if path is not None}
    return steered({key: np.array(mapped(Path(path).expanduser(), key)) for key, path in given.items()}, rows)


def input_names(reader: Reader) -> tuple[str, ...]:
    """Return the names x0, x1, ... of the values of a row."""
    return tuple(f"x{number}" for number in range(int(np.prod(reader.shape, dtype=np.int64))))
