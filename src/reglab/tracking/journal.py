"""Journal: the append-only, durable JSON-lines log of a run, to which training writes.

One JSON object a line. A line is one ``write`` to the system, so a crash of the process loses
nothing; ``sync`` makes it durable against power loss. The identity of a metric row is (run, key,
step): the first one stays.
"""

import errno
import logging
import math
import os
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from reglab.core import atomic_write
from reglab.tracking.journal_lines import Layout, Row, encode, layout, lines, metric_rows

_log = logging.getLogger(__name__)
_FORKED = b"reglab: a process that the code of a run forked came back from it, and is ended; the run continues\n"
_FLOATS = {float}
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)  # one that was put there after the folder was looked at
_VOLATILE = ("system/", "time/")  # a resumed run repeats these rows with other values by nature


class Journal:
    """Append-only file of one run. An existing file is continued; a torn last line is dropped.

    Attributes:
        position: The length in bytes so far.
        top: The largest step so far, at least 0.
        dropped: Rows refused because they were there already.
        conflicts: Those of them whose value differed.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.dropped = 0
        self.conflicts = 0
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | _NO_LINK, 0o644)
        self._lock = threading.Lock()
        self.forked = False
        _open.add(self)
        # The largest step of each key: a later step needs no look-up.
        self._last: dict[str, int] = {}
        # The same of rows written by layout, for all its keys at once.
        self._late: dict[Layout, int] = {}
        # The rows from this step on, read back when one is repeated:
        self._kept: dict[tuple[str, int], float] = {}
        self._kept_from: int | None = None
        self._is_named = False
        self.position = self._scan()
        os.ftruncate(self._file, self.position)
        self.top = max(self._last.values(), default=0)

    def append(self, metrics: Mapping[str, Any], step: int) -> None:
        """Record one value for each key at ``step``, with the present time.

        Rows that are there already are dropped. Values are numbers or 0-dim tensors.

        Raises:
            OSError: Where the line cannot be written.
        """
        if metrics:
            values = list(map(float, metrics.values()))
            self.append_row(layout(tuple(metrics)), values, step, time.time_ns() // 1_000_000)

    def append_row(self, layout: Layout, values: Sequence[float], step: int, now: int) -> None:
        """Do as ``append`` with the keys of ``layout``, at the time ``now`` in milliseconds.

        It is several times faster where ``step`` is later than all before and the values are finite
        Python floats.
        """
        with self._lock:
            if step > self.top and set(map(type, values)) == _FLOATS and math.isfinite(sum(values)):
                self._put(layout.line % (now, step, *values))
                self.top = self._late[layout] = step
                if self._kept_from is not None:
                    self._kept.update(((key, step), value) for key, value in zip(layout.keys, values, strict=True))
            else:
                self._append_new(dict(zip(layout.keys, map(float, values), strict=True)), step, now)

    def record(self, **event: object) -> None:
        """Record something other than metric rows.

        ``tags=``, ``artifact=`` with ``folder=``, or ``status=``.
        """
        with self._lock:
            self._put(encode({"time": time.time_ns() // 1_000_000, **event}))

    def rows(self, after: int = 0) -> Iterator[Row]:
        """Yield the metric rows after byte ``after``."""
        for line in lines(self.path, after):
            yield from metric_rows(line.content)

    def sync(self) -> int:
        """Make all lines durable (fsync) and return the position, for a checkpoint."""
        with self._lock:
            os.fsync(self._file)
            if not self._is_named:
                atomic_write.sync_folder(self.path.parent)
                self._is_named = True
            return self.position

    @property
    def in_place(self) -> bool:
        """Whether the file is where it was opened."""
        with suppress(OSError):
            return os.path.samestat(self.path.stat(), os.fstat(self._file))
        return False

    def check_in_place(self) -> None:
        """Check that the file is where it was opened.

        Raises:
            OSError: ESTALE, where its folder was moved, removed or replaced: no other process finds
                what is recorded from then on.
        """
        if self.in_place:
            return
        raise OSError(
            errno.ESTALE,
            f"{self.path.parent} was moved or removed while its run trained: move it back and resume the run, or train "
            "it again",
        )

    def close(self) -> None:
        """Give the file back; nothing can be recorded afterwards."""
        os.close(self._file)

    def _scan(self) -> int:
        """Read the last step of each key; return the end of the last readable line."""
        position = 0
        for line in lines(self.path):
            position, step = line.end, line.content.get("step", 0)
            for key in line.content.get("metrics", ()):
                self._last[key] = max(step, self._last.get(key, step))
        return position

    def _append_new(self, metrics: Mapping[str, float], step: int, now: int) -> None:
        for written, late in self._late.items():
            self._last.update({key: max(late, self._last.get(key, late)) for key in written.keys})
        self._late.clear()
        new = {key: value for key, value in metrics.items() if self._is_new(key, value, step)}
        if new:
            self._put(encode({"time": now, "step": step, "metrics": new}))
            self.top = max(step, self.top)
        for key, value in new.items():
            self._last[key] = max(step, self._last.get(key, step))
            if self._kept_from is not None:
                self._kept[key, step] = value

    def _is_new(self, key: str, value: float, step: int) -> bool:
        if step > self._last.get(key, step - 1):
            return True
        kept = self._kept_since(step).get((key, step))
        if kept is None:
            return True
        self.dropped += 1
        if kept != value and not (kept != kept and value != value) and not key.startswith(_VOLATILE):
            self.conflicts += 1
            if self.conflicts == 1:
                _log.warning(
                    "%s at step %d was recorded as %r and is now %r: the first value is kept. The repeated steps did "
                    "not reproduce the training: see conflicts in %s.",
                    key, step, kept, value, self.path,
                )  # fmt: skip
        return False

    def _kept_since(self, step: int) -> Mapping[tuple[str, int], float]:
        if self._kept_from is None or step < self._kept_from:
            self._kept.clear()
            for line in lines(self.path, wanted=lambda _, other: other >= step):
                for row in metric_rows(line.content):
                    if row.step >= step:
                        self._kept.setdefault((row.key, row.step), row.value)
            self._kept_from = step
        return self._kept

    def _put(self, line: bytes) -> None:
        try:
            if self.forked:
                _end_forked()
            written = os.write(self._file, line)
        except OSError as error:
            raise self._write_error(line, error.errno) from error
        if written < len(line):  # a full disk takes part of a line
            os.ftruncate(self._file, self.position)
            raise self._write_error(line, errno.ENOSPC)
        self.position += written

    def _write_error(self, line: bytes, number: int | None) -> OSError:
        reason = os.strerror(number or errno.EIO)
        advice = "resume the run" if number == errno.EBADF else "free some disk space, then resume the run"
        return OSError(number, f"cannot write {len(line)} bytes to {self.path} ({reason}): {advice}")


_open: "weakref.WeakSet[Journal]" = weakref.WeakSet()


def _mark_forked() -> None:
    """In a forked child: the journals are the parent's, which records on."""
    for journal in list(_open):
        journal.forked = True


def _end_forked() -> NoReturn:
    """End a child that would train and record the run of its parent a second time."""
    with suppress(OSError):
        os.write(2, _FORKED)
    os._exit(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_mark_forked)
