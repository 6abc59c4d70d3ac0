"""The tracker of one run: everything goes to the journal and returns at once."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from reglab.errors import UserError
from reglab.tracking.batch import Sink
from reglab.tracking.drainer import Drainer
from reglab.tracking.folder import JOURNAL, SENT
from reglab.tracking.journal import Journal

_log = logging.getLogger(__name__)
_NOTE_LIMIT = 7_900  # MLflow cuts a tag at 8,000 characters

Status = Literal["FINISHED", "FAILED", "KILLED"]


class RunTracker:
    """Records metric rows, tags, artifacts, notes and the end of the run ``run_id`` in ``folder``.

    sink: the store that a background writer sends the journal to every ``seconds``; None keeps all in the folder.
    """

    def __init__(self, run_id: str, folder: Path, sink: Sink | None, seconds: float = 5.0) -> None:
        self.run_id = run_id
        self.folder = folder
        self.journal = Journal(folder / JOURNAL)
        self._step = max((row.step for row in self.journal.rows()), default=0)
        self._drainer = Drainer(self.journal.path, sink, folder / SENT, seconds) if sink else None
        self._ended = False
        if self._drainer:
            self._drainer.start()

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Record one value for each key at ``step``. A key that has a value at ``step`` keeps the one it has."""
        self._step = max(step, self._step)
        self.journal.append(metrics, step)

    def summary(self, metrics: Mapping[str, Any]) -> None:
        """Record the run's result: each metric as ``final/<key>``, at the last step logged."""
        self.log({f"final/{key}": value for key, value in metrics.items()}, self._step)

    def tag(self, **tags: object) -> None:
        """Set tags; a later value replaces an earlier one. Dotted names: ``tag(**{"reglab.score": "r2"})``."""
        self.journal.record(tags={key: str(value) for key, value in tags.items()})

    def note(self, markdown: str) -> None:
        """Set the note that MLflow shows on the run's page; beyond 7,900 characters it goes on in ``note.md``."""
        if len(markdown) > _NOTE_LIMIT:
            path = self.folder / "note.md"
            path.write_text(markdown, encoding="utf-8")
            self.artifact(path)
            markdown = markdown[:_NOTE_LIMIT] + "\n\n(goes on in the artifact note.md)"
        self.tag(**{"mlflow.note.content": markdown})

    def artifact(self, path: str | Path, folder: str = "") -> None:
        """Store a file, or the files of a folder, under ``folder`` of the run's artifacts.

        It is read in the background or when the run finishes: leave it in place until then. Raises UserError where
        there is nothing at ``path``.
        """
        path = Path(path).resolve()
        if not path.exists():
            raise UserError(f"artifact {path} does not exist: write it before it is handed to the tracker")
        home = self.folder.resolve()  # a path below the run's folder is kept relative, so that the folder can move
        inside = path.relative_to(home) if path.is_relative_to(home) else path
        self.journal.record(artifact=str(inside), folder=folder)

    def sync(self) -> int:
        """Make everything recorded so far durable and return the journal's position, for a checkpoint to keep."""
        return self.journal.sync()

    def drain(self) -> bool:
        """Send everything recorded so far now. False: the store cannot be reached, or there is none."""
        return self._drainer.drain() if self._drainer else False

    def finish(self, status: Status = "FINISHED") -> None:
        """Record how the run ended, send all that is left, and close. A second call does nothing."""
        if self._ended:
            return
        if status not in get_args(Status):
            raise ValueError(f"status must be one of {', '.join(get_args(Status))}, got {status!r}")
        self._ended = True
        self.journal.record(status=status)
        self.journal.sync()
        if self._drainer:
            self._drainer.stop()
            if not self._drainer.drain():
                _log.warning(
                    "Run %s ended %s, but %d bytes of its journal are not in the store yet. They are safe in %s. To "
                    "send them when the store is back: python -c \"import reglab.tracking as t; t.send('%s')\"",
                    self.run_id, status, self.journal.position - self._drainer.sent, self.journal.path, self.folder,
                )  # fmt: skip
        self.journal.close()
