"""Worker processes that read rows ahead of the one that computes."""

import os
import signal
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, islice
from multiprocessing import current_process
from typing import Any, Literal, NamedTuple

import numpy as np
from torch import Generator
from torch.utils.data import DataLoader, Dataset

from reglab.core.describe_error import describe_error
from reglab.core.errors import UserError
from reglab.core.signals import HANDLED
from reglab.data.moments import counts_of, moments_of
from reglab.data.reader import Array, Reader
from reglab.data.source import Integers
from reglab.processes.parent_watch import exit_with_parent, forked_parent_alive

_AHEAD = 4  # batches that each worker reads ahead
_END = object()
_FEW = 2  # batches that are not worth a process


Result = Literal["rows", "counts", "moments", "column moments", "items", "targets"]
_OF_ROWS: Mapping[Result, Callable[[Array, float | None], Any]] = {
    "rows": lambda rows, _: rows,
    "counts": lambda rows, _: counts_of(rows),
    "moments": lambda rows, pad: moments_of(rows, by_column=False, pad=pad),
    "column moments": lambda rows, pad: moments_of(rows, by_column=True, pad=pad),
}


class Task(NamedTuple):
    """What a worker makes of some rows."""

    rows: Integers
    result: Result


class ReadAhead:
    """Runs tasks on a reader in worker processes and returns their results in order.

    Args:
        reader: Of the rows.
        workers: Number of processes; 0 reads in this one.
        pad: The value of padding, which does not count in moments; None: there is none.
    """

    def __init__(self, reader: Reader, workers: int, pad: float | None = None) -> None:
        self.reader, self.workers, self.pad = reader, workers, pad
        self._idle: list[DataLoader[Any]] = []

    def __getstate__(self) -> dict[str, Any]:
        return {"reader": self.reader, "workers": self.workers, "pad": self.pad, "_idle": []}

    def read(self, batches: Iterable[Integers], result: Result = "rows") -> Iterator[Any]:
        """Yield the raw rows of each batch, or what ``result`` says of them (see ``moments``).

        Args:
            batches: Row numbers of each, int64 ``[rows]``; asked for as far as they are read ahead.
            result: What workers return.

        Raises:
            UserError: Naming what cannot be read.
        """
        work, tasks = _Work(self.reader, self.pad), (Task(rows, result) for rows in batches)
        first = list(islice(tasks, _FEW))
        if len(first) < _FEW or not self.workers:
            yield from (_checked(work[task]) for task in chain(first, tasks))
            return
        loader = self._idle.pop() if self._idle else _loader(work, self.workers)
        loader.sampler.tasks = chain(first, tasks)  # type: ignore[attr-defined]  # ours
        results = _results(loader)
        while (each := _next(results)) is not _END:
            yield _checked(each)
        self._idle.append(loader)  # with its processes; one that was not read to its end ends with its iterator


class _Order:
    """The sampler of a loader whose processes serve one order after another."""

    tasks: Iterable[Task] = ()

    def __iter__(self) -> Iterator[Task]:
        return iter(self.tasks)


class _Work(Dataset[Any]):
    def __init__(self, reader: Reader, pad: float | None) -> None:
        self.reader, self.pad = reader, pad

    def __getitem__(self, task: Task) -> Any:
        try:
            if make := _OF_ROWS.get(task.result):
                return make(_finite(self.reader.read(task.rows), task.rows), self.pad)
            inputs, targets = self.reader.items(task.rows)
            return (inputs, targets) if task.result == "items" else (None, targets)
        except UserError as error:
            return _Failure(str(error))
        except Exception as error:  # noqa: BLE001 - raised in the process that asked, without a worker's traceback
            return _Failure(f"the data cannot be read: {describe_error(error)}")


class _Failure(NamedTuple):
    message: str


def _finite(raw: Array, rows: Integers) -> Array:
    """Return raw rows, none of which holds NaN or an infinite value."""
    if raw.dtype.kind == "f" and not np.isfinite(raw).all():
        row = rows[np.flatnonzero(~np.isfinite(raw.reshape(len(raw), -1)).all(axis=1))[0]]
        raise UserError(
            f"the inputs hold NaN or an infinite value in row {row}, counted from 0: fill it in, or leave the row out"
        )
    return raw


def _checked(result: Any) -> Any:
    if isinstance(result, _Failure):
        raise UserError(result.message)
    return result


def _loader(work: _Work, workers: int) -> DataLoader[Any]:
    with _quiet():
        return DataLoader(
            work,
            batch_size=None,
            sampler=_Order(),
            num_workers=workers,
            collate_fn=_as_it_is,
            prefetch_factor=_AHEAD,
            persistent_workers=True,
            worker_init_fn=_begin_worker,
            generator=Generator(),  # so that no draw is taken from the job's
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence torch about more workers than processors: how many there are is the user's choice."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*worker processes in total")
        yield


def _as_it_is(result: Any) -> Any:
    return result  # numpy's arrays, through a pipe: /dev/shm, which tensors need, is small in many containers


def _begin_worker(_: int) -> None:
    """Leave signals to the process that trains, whose step needs rows; end with it."""
    for number in HANDLED:
        signal.signal(number, signal.SIG_IGN)
    exit_with_parent(0, terminate=False, parent_alive=forked_parent_alive())


def _next(results: Iterator[Any]) -> Any:
    try:
        return next(results, _END)
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise UserError(
            f"a process that reads the data has ended ({str(error).splitlines()[0]}), most often because memory ran "
            "out: set a lower data.workers; a run continues by reglab resume"
        ) from error


def _results(loader: DataLoader[Any]) -> Iterator[Any]:
    """Return the results of the loader's tasks; its processes end with it."""
    new = loader._iterator is None
    with _allowed_to_start(), _quiet(), _handlers_kept():
        results = iter(loader)
    if new:
        weakref.finalize(loader, _shut_down, results, os.getpid())  # also at exit
    return results


def _shut_down(results: Any, process: int) -> None:
    if os.getpid() == process:  # not in one that was forked, whose processes they are not
        results._shutdown_workers()


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Leave out torch's handler, which raises wherever this process stands when a worker dies.

    It shows where rows are asked for.
    """
    number = getattr(signal, "SIGCHLD", None)
    if number is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(number)
    try:
        yield
    finally:
        if before is not None:  # as it is where the handler is not Python's
            signal.signal(number, before)


@contextmanager
def _allowed_to_start() -> Iterator[None]:
    """Let a daemonic process, such as a sweep's worker, start processes; they end with it."""
    config: dict[str, Any] = current_process()._config  # type: ignore[attr-defined]
    daemon = config.pop("daemon", None)
    try:
        yield
    finally:
        if daemon is not None:
            config["daemon"] = daemon
