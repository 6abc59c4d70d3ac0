"""Local launcher: the jobs of a sweep on worker processes of this machine."""

import multiprocessing
import os
import pickle
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from multiprocessing.context import ForkServerContext, SpawnContext

from reglab.core.errors import UserError
from reglab.launchers.compose import JobGroup
from reglab.launchers.dependencies import dependencies, with_dependencies
from reglab.launchers.display import Display
from reglab.launchers.events import Ended
from reglab.launchers.job_labels import job_labels
from reglab.launchers.job_returns import Interrupted
from reglab.launchers.listener import RunsListener, record_end
from reglab.launchers.run_group import Assignment
from reglab.launchers.worker import work
from reglab.launchers.worker_handle import PoolRules, Spawned
from reglab.launchers.worker_pool import WorkerPool
from reglab.launchers.worker_stderr import WorkerStderr
from reglab.processes.child_processes import SAFE_PATH, environment, start
from reglab.processes.fork_server import end_server, server_pid

_THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
# With it torch.cuda.is_available() does not initialize CUDA, which a forked process could not use
# any more.
_CUDA_CHECK = "PYTORCH_NVML_BASED_CUDA_CHECK"
_NO_VARIABLES: Mapping[str, str] = {}
_EXIT_PRIORITY = -1  # multiprocessing ends workers before it calls what has a priority below 0


class LocalRunner:
    """Runs groups of jobs on worker processes.

    Args:
        workers: Processes at a time; None for one per ``threads`` physical cores.
        threads: CPU threads of each.
        preload: Modules imported once, in the fork server, so that workers need not import torch.
    """

    rules = PoolRules()

    def __init__(self, workers: int | None, threads: int, preload: Sequence[str]):
        self.workers, self.threads = count_workers(workers, threads), threads
        self._processes = start_server(preload, threads)

    def launch(self, groups: Sequence[JobGroup], assignment: Assignment) -> dict[int, Ended]:
        """Run the groups, earlier ones first, and return how each job ended, by its number.

        A job of a path waits for the one before it.

        Args:
            groups: Groups of jobs.
            assignment: Of the sweep.

        Raises:
            Interrupted: By Ctrl-C or SIGTERM.
        """
        pickled = pickle.dumps(assignment)
        requests = [request for group in groups for request in group.requests]
        with Display(job_labels(requests)) as display:
            pool = WorkerPool(
                lambda group, index: self._spawn(pickled, group, index),
                min(self.workers, len(requests)),
                RunsListener(display),
                self.rules,
            )
            ends = pool.run(with_dependencies(groups, dependencies(requests)))
        for request in requests:
            if (end := ends.get(request.number)) and end.status != "FINISHED":
                record_end(end, request.folder)
        if pool.interrupted:
            raise Interrupted(ends, pool.interrupted)
        return ends

    def _spawn(self, assignment: bytes, group: JobGroup, index: int) -> Spawned:
        stderr = WorkerStderr()
        with worker_environment(self.threads):
            process, pipe = start(self._processes, work, assignment, daemon=True, stderr=stderr.child_end)
        forked = self._processes.get_start_method() == "forkserver"
        return Spawned(process, pipe, stderr, server_pid() if forked else None)


def count_workers(workers: int | None, threads: int) -> int:
    """Return the number of workers. Raises UserError unless both arguments are at least 1.

    Args:
        workers: The setting; None for as many as there are physical cores for their threads.
        threads: CPU threads of each worker.
    """
    if (workers is not None and workers < 1) or threads < 1:
        raise UserError(f"hydra.launcher: workers and threads must be at least 1, got {workers} and {threads}")
    return workers or max(1, cores() // threads)


def cores() -> int:
    """Return how many physical cores this process may use."""
    import psutil

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, psutil.cpu_count(logical=False) or allowed)


def start_server(preload: Sequence[str], threads: int) -> ForkServerContext | SpawnContext:
    """Start the fork server and return at once: it imports while the sweep is prepared.

    Args:
        preload: Modules that it imports.
        threads: CPU threads of each worker.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    with worker_environment(threads, SAFE_PATH), _ignoring_interrupts():
        forkserver.ensure_running()
    _end_server_at_exit()
    return context


@cache
def _end_server_at_exit() -> None:
    from multiprocessing import util

    util.Finalize(None, end_server, exitpriority=_EXIT_PRIORITY)


def worker_environment(threads: int, more: Mapping[str, str] = _NO_VARIABLES) -> AbstractContextManager[None]:
    """Set thread counts and CUDA variables for processes that are started inside the context.

    Args:
        threads: CPU threads of each process.
        more: Further variables.
    """
    return environment({**dict.fromkeys(_THREADS, str(threads)), _CUDA_CHECK: "1", **more})


@contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """Make processes started inside the context ignore Ctrl-C."""
    if sys.platform == "win32":
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
