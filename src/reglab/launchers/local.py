"""A sweep's jobs on worker processes of this machine, in one live table."""

import multiprocessing
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from hydra.core.utils import JobReturn
from hydra.types import HydraContext
from omegaconf import DictConfig

from reglab.config.pack_settings import PackSettings
from reglab.core.errors import UserError
from reglab.launchers import resumable_jobs
from reglab.launchers import task as tasks
from reglab.launchers.compose import Composer, JobGroup, composer_of, job_config, job_folder
from reglab.launchers.dependencies import dependencies, with_dependencies
from reglab.launchers.display import Display
from reglab.launchers.events import Ended
from reglab.launchers.job_labels import job_labels
from reglab.launchers.job_returns import Interrupted, job_return
from reglab.launchers.run_group import Assignment
from reglab.launchers.worker import work
from reglab.launchers.worker_handle import PoolRules
from reglab.launchers.worker_pool import WorkerPool
from reglab.processes.rank_processes import environment

_THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
# torch.cuda.is_available() then asks the driver without opening CUDA, which a forked process could not use any more.
_CUDA_CHECK = "PYTORCH_NVML_BASED_CUDA_CHECK"
_NO_VARIABLES: Mapping[str, str] = {}
_EXIT_PRIORITY = -1  # multiprocessing ends workers before it calls what has a priority below 0


class LocalRunner:
    """Runs orders on ``workers`` processes with ``threads`` threads each.

    workers: None for one per ``threads`` physical cores. preload: modules that are imported once, in a server process
    that the workers are forked from (where the system has fork), so that torch's seconds are paid once.
    """

    rules = PoolRules()

    def __init__(self, workers: int | None, threads: int, preload: Sequence[str]):
        self.workers, self.threads = count_workers(workers, threads), threads
        self._processes = start_server(preload, threads)

    def launch(
        self,
        groups: Sequence[JobGroup],
        context: HydraContext,
        config: DictConfig,
        task: Callable[[DictConfig], object],
        settings: PackSettings | None = None,
    ) -> list[JobReturn]:
        """Run the orders, earlier ones first, and return how each job ended, by job number. Raises Interrupted.

        A job of a path waits for the one before it.

        task: for orders of one job. settings: of those that are packs.
        """
        composer = composer_of(context.config_loader, config)
        settings = settings or PackSettings(threads=self.threads)
        assignment = pickle.dumps(Assignment(context, config, task, tasks.train_pack, settings, composer.bases))
        jobs = {job: overrides for group in groups for job, overrides in zip(group.jobs, group.overrides, strict=True)}
        groups = with_dependencies(groups, dependencies(jobs))
        with Display(job_labels(jobs)) as display:
            pool = WorkerPool(
                lambda group, index: self._spawn(assignment, group, index),
                min(self.workers, len(jobs)),
                display.on_event,
                display.on_tick,
                lambda group, open_jobs, reason: _end_open_runs(group, open_jobs, reason, composer),
                lambda group: _checkpoint_progress(group, composer),
                lambda group, job: _recorded_end(group, job, composer),
                self.rules,
            )
            ends = pool.run(groups)
        for job, end in ends.items():
            if end.status != "FINISHED":
                _record_end(end, job_config(composer, job, jobs[job], lean=True))
        returns = [job_return(jobs[job], ends[job]) for job in sorted(ends)]
        if pool.interrupted:
            raise Interrupted(returns, pool.interrupted)
        return returns

    def _spawn(self, assignment: bytes, group: JobGroup, index: int) -> tuple[BaseProcess, Connection]:
        ours, theirs = self._processes.Pipe()
        process = self._processes.Process(target=work, args=(theirs, assignment), daemon=True)
        with worker_environment(self.threads):
            process.start()
        theirs.close()  # so that the pipe ends when the worker does
        return process, ours


def count_workers(workers: int | None, threads: int) -> int:
    """Return how many workers there are: so many, or as many as physical cores for their threads."""
    if (workers is not None and workers < 1) or threads < 1:
        raise UserError(f"hydra.launcher: workers and threads must be at least 1, got {workers} and {threads}")
    return workers or max(1, cores() // threads)


def cores() -> int:
    """Return how many physical cores this process may use."""
    import psutil

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, psutil.cpu_count(logical=False) or allowed)


def start_server(preload: Sequence[str], threads: int) -> ForkServerContext | SpawnContext:
    """Start the process that workers are forked from, and return at once: it imports while the sweep is prepared."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    with worker_environment(threads), _ignoring_interrupts():
        forkserver.ensure_running()
    _end_server_at_exit()
    return context


@cache
def _end_server_at_exit() -> None:
    from multiprocessing import util

    util.Finalize(None, _end_server, exitpriority=_EXIT_PRIORITY)


def _end_server() -> None:
    """End the fork server: by itself it would import torch to the end first, and hold our pipes open meanwhile."""
    from multiprocessing import forkserver

    if pid := getattr(forkserver._forkserver, "_forkserver_pid", None):  # Python has no public name for it
        with suppress(OSError):
            os.kill(pid, signal.SIGTERM)


def worker_environment(threads: int, more: Mapping[str, str] = _NO_VARIABLES) -> AbstractContextManager[None]:
    """Set the variables that libraries read when they are loaded, for processes started inside the context."""
    return environment({**dict.fromkeys(_THREADS, str(threads)), _CUDA_CHECK: "1", **more})


@contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """A process started inside ignores Ctrl-C; otherwise the server would print a traceback while it imports."""
    if sys.platform == "win32":
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _record_end(end: Ended, config: DictConfig) -> None:
    """Give a run the end that its worker could not record: it died, or the interrupt came while it was recording."""
    from reglab.tracking import reopen_run
    from reglab.tracking.status import last_status

    try:
        status = last_status(job_folder(config))  # the journal leads the store
        timed_out = (status, end.status) == ("KILLED", "FAILED")  # it was asked to end, for it took too long
        if status != "RUNNING" and not timed_out:
            return
        run = reopen_run(job_folder(config))
    except UserError:
        return  # it died before its run was opened
    run.tag(**{"reglab.message": end.message})
    run.finish(end.status)


def _recorded_end(group: JobGroup, job: int, composer: Composer) -> Ended | None:
    """Return how the run of a job has ended by its journal, which its store may not have heard of yet."""
    config = job_config(composer, job, group.overrides[group.jobs.index(job)], lean=True)
    return resumable_jobs.recorded_end(job, job_folder(config))


def _end_open_runs(group: JobGroup, jobs: Sequence[int], reason: str, composer: Composer) -> None:
    """End the runs that a dead worker left open, before the same jobs open new ones in the same folders."""
    from reglab.tracking import pack_manifest

    pack_manifest.remove(_folder(group, composer))
    subset = group.subset(jobs)
    for job, overrides in zip(subset.jobs, subset.overrides, strict=True):
        _record_end(Ended(job, "FAILED", f"{reason}; trained again"), job_config(composer, job, overrides, lean=True))


def _checkpoint_progress(group: JobGroup, composer: Composer) -> int:
    """Return a number that is the larger the further the checkpoint of an order is; 0 where there is none."""
    from reglab.tracking import pack_manifest

    folder = _folder(group, composer)
    if len(group.jobs) > 1:
        manifest = pack_manifest.read(folder)
        return manifest.steps if manifest else 0
    last = folder / "checkpoints" / "last.ckpt"
    return last.stat().st_mtime_ns if last.exists() else 0


def _folder(group: JobGroup, composer: Composer) -> Path:
    """Return the folder of an order's first job."""
    return job_folder(job_config(composer, group.jobs[0], group.overrides[0], lean=True))
