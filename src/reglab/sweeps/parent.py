"""The parent run of a sweep: open a new one, or resume an earlier one of the same jobs."""

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from reglab.analysis import table_report as table_file
from reglab.analysis.table_report import TableReport
from reglab.core import atomic_write
from reglab.core.errors import UserError
from reglab.core.override import literal, override
from reglab.core.secrets import hide
from reglab.launchers.compose import Composer
from reglab.launchers.events import Ended
from reglab.launchers.request_launcher import Capabilities
from reglab.launchers.resumable_jobs import unfinished_packs, wait_for_workers
from reglab.sweeps import ledger
from reglab.sweeps.blocks import Job
from reglab.sweeps.lock import start_lock, sweep_lock
from reglab.sweeps.path import Link
from reglab.tracking import RunTracker, TrackingSettings, open_sweep, reopen_run
from reglab.tracking.folder_gate import check_sweep_folder
from reglab.tracking.run_state import WORKING_FOLDER


@dataclass(frozen=True)
class OpenSweep:
    """A sweep whose parent run is open.

    Attributes:
        parent: The sweep's run.
        done: How the jobs ended that are not to be run.
        rerun_members: Of these, members of a pack that resumes: it needs all its members, so that
            its results stay the same bit by bit.
    """

    parent: RunTracker
    done: Mapping[int, Ended] = field(default_factory=dict)
    rerun_members: frozenset[int] = frozenset()

    def remaining(self, jobs: Sequence[Job]) -> list[Job]:
        """Return the jobs that a launcher gets."""
        return [job for job in jobs if job.number not in self.done or job.number in self.rerun_members]


@contextmanager
def open_or_resume(
    jobs: Sequence[Job],
    arguments: Sequence[str],
    composer: Composer,
    settings: TrackingSettings,
    can: Capabilities,
    links_by_job: Mapping[int, Link],
    ready: Callable[[Sequence[Job]], Sequence[TableReport]] = lambda jobs: (),
    resume: Path | None = None,
) -> Iterator[OpenSweep]:
    """Open the parent run of a sweep, or resume the earlier one of the same jobs, and lock it.

    Where it resumes, the sweep's config is changed so that its jobs use the earlier one's folders.
    Without MLflow, or with ``sweep.again``, it is a new sweep.

    Args:
        jobs: Of the sweep.
        arguments: The command line's overrides.
        composer: Of the sweep.
        settings: Of tracking.
        can: Of the launcher.
        links_by_job: Of the jobs of a path.
        ready: Called with the jobs to run before a run is opened; returns the reports of their
            tables, or raises UserError if they cannot run.
        resume: The folder of the sweep that it must turn out to be.

    Raises:
        UserError: Another process runs the sweep, or a job of it.
    """
    config = composer.master
    fresh = ignores_earlier(config)
    tags: dict[str, Any] = {}
    contents: dict[int, Any] = {}
    new_folder = Path(str(config.hydra.sweep.dir)).absolute()
    if settings.backend == "mlflow":
        from reglab.tracking.mlflow.ledger import FINGERPRINT, FOLDER  # late: mlflow

        contents = ledger.contents(jobs, composer, links_by_job)
        tags = {FINGERPRINT: ledger.sweep_fingerprint(jobs, contents), FOLDER: new_folder}

    def earlier(quiet: bool = False) -> Path | None:
        if not tags or fresh:
            return None
        if resume:
            return resume if ledger.is_sweep(settings, tags[FINGERPRINT], resume) else None
        return ledger.earlier_folder(settings, tags[FINGERPRINT], quiet)

    folder = earlier()
    _check_resumable(resume, folder, settings.backend)
    with ExitStack() as locks:
        if folder is None:
            tables = ready(jobs)
            with start_lock(settings.uri) if tags else nullcontext():
                folder = earlier(quiet=True)  # the same command may have been given meanwhile
                if folder is None:
                    new_folder.mkdir(parents=True, exist_ok=True)
                    locks.enter_context(sweep_lock(new_folder))
                    atomic_write.write(new_folder / "multirun.yaml", hide(OmegaConf.to_yaml(config)))
                    opened = OpenSweep(_open(settings, jobs, arguments, config, new_folder, tags))
                    _keep_tables(tables, opened.parent)
        if folder is None:
            yield opened
            return
        locks.enter_context(sweep_lock(check_sweep_folder(folder)))
        wait_for_workers(folder)
        done = ledger.finished_jobs(settings.uri, folder, contents)
        ready([job for job in jobs if job.number not in done])
        print(ledger.progress(folder, len(jobs), done), file=sys.stderr)
        _keep_job_folders(folder, config)
        composer.bases.clear()  # composed with other folders
        yield OpenSweep(reopen_run(folder), done, _rerun_members(folder, jobs, done) if can.fuses else frozenset())


def _rerun_members(folder: Path, jobs: Sequence[Job], done: Mapping[int, Ended]) -> frozenset[int]:
    packs = (set(manifest.jobs) for manifest in unfinished_packs(folder, {job.number for job in jobs}))
    return frozenset(number for pack in packs if not pack <= done.keys() for number in pack if number in done)


def ignores_earlier(config: DictConfig) -> bool:
    """Return ``sweep.again``. Raises UserError unless it is true or false."""
    again = OmegaConf.select(config, "sweep.again", default=False)
    if not isinstance(again, bool):
        raise UserError(f"sweep.again must be true or false, got {again!r}")
    return again


def _check_resumable(wanted: Path | None, earlier: Path | None, backend: str) -> None:
    """Raise UserError where ``reglab resume`` would start another sweep than the one it names."""
    if wanted is not None and backend != "mlflow":
        raise UserError(
            f"the sweep in {wanted} was recorded with tracking={backend}: only MLflow records which jobs are done, "
            "so it cannot be resumed as a whole. Resume single jobs by their folders: reglab resume FOLDER"
        )
    if wanted is not None and (earlier is None or earlier.resolve() != wanted.resolve()):
        raise UserError(
            f"the sweep in {wanted} cannot be resumed: its configuration makes other jobs now than MLflow has of it. "
            "Did conf/, reglab or tracking.uri change? Its finished runs are kept; reglab train -m starts a "
            "new sweep"
        )


def _open(
    settings: TrackingSettings,
    jobs: Sequence[Job],
    arguments: Sequence[str],
    config: DictConfig,
    folder: Path,
    tags: Mapping[str, Any],
) -> RunTracker:
    plain: Any = OmegaConf.to_container(config, resolve=False)
    plain.pop("hydra")
    blocks = list(dict.fromkeys(job.block for job in jobs))
    experiment = OmegaConf.select(config, "hydra.runtime.choices.experiment")
    parent = open_sweep(
        settings,
        name=str(config.get("name") or experiment or f"sweep of {', '.join(blocks)}"[:120]),
        folder=folder,
        config=plain,
        params=plain,
        tags={
            "reglab.command": shlex.join(sys.argv),
            "reglab.overrides": shlex.join(arguments),
            "reglab.jobs": len(jobs),
            **tags,
        },
    )
    parent.tag(**{WORKING_FOLDER: Path.cwd()})  # base of its relative paths, for ``reglab resume``
    return parent


def _keep_tables(tables: Sequence[TableReport], parent: RunTracker) -> None:
    if tables:
        for name, text in (
            (table_file.FILE, table_file.dump(tables)),
            (table_file.MARKDOWN, "\n".join(report.markdown() for report in tables)),
        ):
            (parent.folder / name).write_text(hide(text), encoding="utf-8")
            parent.artifact(parent.folder / name)


def _keep_job_folders(folder: Path, config: DictConfig) -> None:
    """Set the folder of the jobs to that of the earlier sweep."""
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.sweep.dir = literal(str(folder))
        # A job's config is composed anew, from these.
        config.hydra.overrides.hydra.append(override("hydra.sweep.dir", literal(str(folder))))
