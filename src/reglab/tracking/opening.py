"""Open runs in their folders: lock, identity, start, config; common to all backends."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from reglab.core import atomic_write
from reglab.core.errors import UserError
from reglab.tracking.folder import IDENTITY, START, Identity, keep_start, move_earlier_run, write_identity
from reglab.tracking.lock import RunLock
from reglab.tracking.own_folder import check_nothing_overwritten
from reglab.tracking.params import write_config
from reglab.tracking.run_spec import RunSpec
from reglab.tracking.run_start import Start, Texts, write_start
from reglab.tracking.sender import Sender
from reglab.tracking.settings import TrackingSettings, redacted
from reglab.tracking.thinning import Thinning, thinning
from reglab.tracking.tracker import RunTracker

T = TypeVar("T")
_THREADS = 16
_CONFIG = "config.yaml"


@dataclass(frozen=True)
class StoredRun:
    """A run in a store."""

    run_id: str
    artifacts: str


@dataclass(frozen=True)
class Opening:
    """A run that has its folder and is to be made.

    Args:
        start: None where no store will ever hold it.
        texts: Those too long for a store, by file.
    """

    spec: RunSpec
    lock: RunLock
    identity: Identity
    start: Start | None = None
    texts: Mapping[str, Texts] = field(default_factory=dict)


def new_identity(settings: TrackingSettings, spec: RunSpec, run_id: str, artifacts: str | None) -> Identity:
    """Return the identity of the run ``spec`` in the store of ``settings``.

    Args:
        artifacts: Its artifact URI, if known.
    """
    uri, offline = redacted(settings.uri), settings.backend == "offline"
    identity = Identity(run_id, spec.name, uri, artifacts, offline=offline, place=str(spec.folder), also=settings.also)
    return identity.with_thinning(budget(settings, spec))


def budget(settings: TrackingSettings, spec: RunSpec) -> Thinning:
    """Return which rows of the run ``spec`` go to the store."""
    return thinning(settings.points, spec.steps, spec.every, swept=spec.parent is not None)


@contextmanager
def locked_folders(specs: Sequence[RunSpec]) -> Iterator[list[RunLock]]:
    """Lock the folders of ``specs`` and move earlier runs in them; an error releases the locks.

    Raises:
        UserError: Naming the process, where another one is running a run in one of them, or the
            files of others that a run would overwrite.
    """
    locks: list[RunLock] = []
    try:
        for spec in specs:
            locks.append(RunLock(spec.folder))
        for spec in specs:
            check_nothing_overwritten(spec.folder)
            move_earlier_run(spec.folder)
        yield locks
    except BaseException:
        for lock in locks:
            lock.release()
        raise


def write_records(openings: Sequence[Opening]) -> None:
    """Write identity and start of the runs, durably.

    They can be found and created after a crash.
    """
    map_threads(_record, openings)


def remove_records(openings: Sequence[Opening]) -> None:
    """Undo ``write_records`` where no store accepted the runs."""
    for opening in openings:
        (opening.spec.folder / START).unlink(missing_ok=True)
        (opening.spec.folder / IDENTITY).unlink(missing_ok=True)


def mark_created(opening: Opening, stored: StoredRun) -> Opening:
    """Record in the folder that the run was created in its store, and under which id."""
    before = opening.identity
    identity = replace(before, run_id=stored.run_id, artifacts=stored.artifacts)
    if identity != before:
        identity = replace(identity, local=before.run_id)
        write_identity(opening.spec.folder, identity)
    keep_start(opening.spec.folder)
    return replace(opening, identity=identity)


def store_refused(settings: TrackingSettings, specs: Sequence[RunSpec], why: str) -> UserError:
    """Return the error of a store that did not accept ``specs``."""
    names = ", ".join(repr(spec.name) for spec in specs[:3])
    return UserError(f"{redacted(settings.uri)} could not store the runs {names}: {why}")


def track(openings: Sequence[Opening], sender: Sender | None) -> list[RunTracker]:
    """Return the trackers of runs.

    Of those meant for a store, configs and long texts are the first artifacts.
    """
    written: dict[str, str] = {}  # the nodes that their configs share
    for chunk in (openings[:1], openings[1:]):
        map_threads(lambda opening: _write_texts(opening, written), chunk)
    return [_tracker(opening, sender) for opening in openings]


def map_threads(function: Callable[..., T], *columns: Sequence[Any]) -> list[T]:
    """Return ``map(function, *columns)``, computed in threads: fsync of many files is faster."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(function, *columns))


def _record(opening: Opening) -> None:
    if opening.start:  # first, so that a run that has an identity can be made
        write_start(opening.spec.folder, opening.start)
    write_identity(opening.spec.folder, opening.identity)


def _write_texts(opening: Opening, written: dict[str, str]) -> None:
    spec = opening.spec
    if spec.config:
        write_config(spec.folder / _CONFIG, spec.config, written)
    for name, texts in opening.texts.items():
        atomic_write.write(spec.folder / name, json.dumps(texts, indent=2) + "\n")


def _tracker(opening: Opening, sender: Sender | None) -> RunTracker:
    spec = opening.spec
    tracker = RunTracker(opening.identity, spec.folder, sender, opening.lock)
    for name in [*([_CONFIG] if spec.config else []), *opening.texts] if opening.start else []:
        tracker.artifact(spec.folder / name)
    if spec.strengths:
        tracker.log(spec.strengths, 0)
    return tracker
