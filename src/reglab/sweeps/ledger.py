"""Which jobs of a sweep are done: MLflow is the ledger, so launching a sweep again runs only what is not."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reglab.analysis.formatting import plural
from reglab.config.fingerprint import computed_part, hash_config
from reglab.core.errors import UserError
from reglab.launchers.compose import Composer
from reglab.launchers.events import Ended
from reglab.sweeps.blocks import Job
from reglab.sweeps.path import links
from reglab.tracking import TrackingSettings, is_running
from reglab.tracking.admin.sync import sync
from reglab.tracking.folder import EARLIER, IDENTITY, read_identity
from reglab.tracking.run_record import JOB, SUPERSEDED, conclusive, select_attempts
from reglab.tracking.settings import redacted

if TYPE_CHECKING:
    from reglab.tracking.run_record import RunRecord

_DIGEST = "reglab.data_digest"

Content = dict[str, Any]  # what a job computes: its resolved config, less where it runs and is recorded


def contents(jobs: Sequence[Job], composer: Composer) -> dict[int, Content]:
    """Return what each job computes, by its number. The jobs must be known to compose and resolve."""
    linked = links(jobs, composer)
    found = {}
    for job in jobs:
        link = linked.get(job.number)
        start = {"sweep": {"trail": link.trail}} if link else {}
        found[job.number] = computed_part({**composer.resolved(job.overrides), **start})
    return found


def sweep_fingerprint(jobs: Sequence[Job], found: Mapping[int, Content]) -> str:
    """Return the hash of a sweep: of its jobs in their order, each with the name of its block."""
    return hash_config([[job.block, found[job.number]] for job in jobs])


def earlier_folder(settings: TrackingSettings, fingerprint: str) -> Path | None:
    """Return the folder of the newest sweep of this fingerprint, None if there is none that can go on here.

    Says so if there is one, but its folder lies elsewhere.
    """
    from reglab.tracking.mlflow.ledger import newest_sweep  # late: mlflow

    found = newest_sweep(settings, fingerprint)
    if found is None:
        return None
    try:
        identity = read_identity(Path(found.folder))
    except (UserError, OSError):
        identity = None
    if identity is None or (identity.run_id, identity.uri) != (found.run_id, redacted(settings.uri)):
        _say(
            f"the sweep {found.name} ({found.run_id}) cannot go on here, since {found.folder} does not hold it on this "
            "machine: a new one starts"
        )
        return None
    return Path(found.folder)


def settled(uri: str, folder: Path, found: Mapping[int, Content]) -> dict[int, Ended]:
    """Return how those jobs of the sweep in ``folder`` ended that need not run again: finished, or diverged.

    Nobody may be running the sweep: what MLflow still has as running is ended KILLED first. A result on data that have
    changed since is marked as superseded, and its job is left out.
    """
    from reglab.tracking.mlflow.read import sweep_runs

    deliver(folder, uri)  # what died may have recorded more than it sent, even that it finished
    parent_id = read_identity(folder).run_id
    children = sweep_runs(uri, parent_id)
    if _end_dead(uri, children, folder):
        children = sweep_runs(uri, parent_id)
    known = {int(run.tags[JOB]): run for run in select_attempts(children) if run.tags.get(JOB) and conclusive(run)}
    stale = _stale(known, found)
    if stale:
        _supersede(uri, [known.pop(number) for number in stale])
    return {number: _end(number, run) for number, run in known.items()}


def deliver(folder: Path, uri: str) -> bool:
    """Send what the runs of the sweep in ``folder`` have not yet sent: its server may have been away.

    uri: the store that the sweep's configuration names. Returned is whether all of them are in it; if not, it is said
    why. The sweep's own run may be open.
    """
    result = sync([folder], uri, say=lambda text: None)
    # of runs that others took the place of, nothing is awaited
    refused = [reason for place, reason in result.refused.items() if not place.name.startswith(EARLIER)]
    for reason in dict.fromkeys(refused):
        _say(f"not in MLflow yet: {reason}")
    if others := result.running - is_running(folder):
        _say(f"not in MLflow yet: {plural(others, 'run')} that another process holds")
    return not refused and not others


def progress(folder: Path, jobs: int, done: Mapping[int, Ended]) -> str:
    """Return in one line what a sweep that goes on has and what is left."""
    finished = sum(end.status == "FINISHED" for end in done.values())
    verb = "is" if finished == 1 else "are"
    text = f"going on with the sweep in {folder}: {finished} of {plural(jobs, 'job')} {verb} finished, "
    if len(done) > finished:
        text += f"{len(done) - finished} diverged, which running again would only repeat, "
    return f"{text}{jobs - len(done)} to run"


def _end_dead(uri: str, children: Sequence["RunRecord"], folder: Path) -> bool:
    """End the runs that a dead process left open, and tell whether any are open."""
    left = [run.run_id for run in children if run.status == "RUNNING"]
    folders = dict(_run_folders(folder)) if left else {}
    for run_id in left:
        _end_one(uri, run_id, folders.get(run_id))
    return bool(left)


def _run_folders(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in folder.rglob(IDENTITY):
        with suppress(UserError):  # death may have come while it was written
            yield read_identity(path.parent).run_id, path.parent


def _end_one(uri: str, run_id: str, folder: Path | None) -> None:
    """End a run whose folder is gone or cannot be read; the others ``sync`` has ended. One may outlive its sweep."""
    if folder is None or not is_running(folder):
        from reglab.tracking.mlflow.ledger import finish_killed

        finish_killed(uri, run_id)


def _stale(known: Mapping[int, "RunRecord"], found: Mapping[int, Content]) -> list[int]:
    """Return the jobs whose data are no longer those that their runs saw; each distinct data set is loaded once."""
    if not known:
        return []
    from reglab import data  # late: torch

    digests: dict[str, str] = {}

    def has(node: Content, digest: str | None) -> bool:
        key = hash_config(node)
        if key not in digests:
            digests[key] = data.load(node).digest
        return digests[key] == digest

    def holds(node: Content, digest: str | None) -> bool:
        # Under data.shape=auto a model of the user's own may have read images, which its class tells and no config.
        return has(node, digest) or (node.get("shape") == "flat" and has({**node, "shape": "image"}, digest))

    return [number for number, run in known.items() if not holds(found[number]["data"], run.tags.get(_DIGEST))]


def _supersede(uri: str, runs: Sequence["RunRecord"]) -> None:
    from reglab.tracking.mlflow.amend import amend

    for run in runs:
        amend(uri, run.run_id, {}, 0, {SUPERSEDED: "the data changed"})
    many = len(runs) > 1
    _say(
        f"the data of {plural(len(runs), 'job')} changed since {'they' if many else 'it'} ran: "
        f"{'their results count' if many else 'its result counts'} no more"
    )


def _end(number: int, run: "RunRecord") -> Ended:
    return Ended(
        number, "FINISHED" if run.status == "FINISHED" else "FAILED", run.tags.get("reglab.message", ""), run.run_id
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr)
