"""Process launcher: each group of jobs in a process of its own, on the GPUs of its slot."""

import multiprocessing
import signal
from collections.abc import Sequence

from reglab.config.job_request import JobRequest
from reglab.core import signals
from reglab.core.errors import UserError
from reglab.launchers.compose import Composer, JobGroup
from reglab.launchers.devices import VISIBLE, devices_needed, gpu_slots, visible_gpus
from reglab.launchers.exit_causes import Limits
from reglab.launchers.local import LocalRunner, count_workers, worker_environment
from reglab.launchers.rank_zero import run_rank_zero
from reglab.launchers.worker_handle import PoolRules, Spawned
from reglab.launchers.worker_stderr import WorkerStderr
from reglab.processes.child_processes import start
from reglab.processes.rank_processes import free_port, rank_environment

RANK_EXIT_SECONDS = 30.0  # for the other ranks, after one has ended


class ProcessRunner(LocalRunner):
    """Runs each group in a fresh process that sees only the GPUs of its slot.

    Args:
        workers: Slots; None for one per GPU (per job's GPUs), or per ``threads`` physical cores
            where jobs train on the CPU.
        threads: CPU threads of each process.
        gpus: Which GPUs may be used; None for all that are visible.
        retries: How often a job resumes from its checkpoint after its process was killed or
            terminated.
        limits: Of time and memory.

    Raises:
        UserError: A setting is out of its range.
    """

    def __init__(self, workers: int | None, threads: int, gpus: object, retries: int, limits: Limits):
        if not isinstance(retries, int) or retries < 0:
            raise UserError(f"hydra.launcher.retries must be an integer >= 0, got {retries!r}")
        count_workers(workers, threads)  # validates both
        self._workers_setting, self.threads, self._gpus = workers, threads, visible_gpus(gpus)
        self.rules = PoolRules(one_shot=True, retries=retries, stop_on_refusal=True, limits=limits)
        self.workers = 1
        self._slots: list[tuple[str, ...]] = [()]
        self._needs: dict[int, int | None] = {}
        self._processes = multiprocessing.get_context("spawn")

    def assign_gpus(self, requests: Sequence[JobRequest], composer: Composer) -> None:
        """Assign the GPUs to slots for these jobs.

        Args:
            requests: Of the jobs.
            composer: Of the sweep.

        Raises:
            UserError: A job needs what no slot has.
        """
        trainers = {request.number: composer.resolved(request.overrides).get("trainer") or {} for request in requests}
        self._needs = {job: devices_needed(trainer, self._gpus) for job, trainer in trainers.items()}
        self._slots = gpu_slots(list(trainers.values()), self._gpus, self._workers_setting, self.threads)
        self.workers = len(self._slots)

    def slot_environment(self, group: JobGroup, slot: int) -> tuple[dict[str, str], int]:
        """Return the environment variables of a group's process in a slot, and its number of ranks.

        Args:
            group: The group; a pack has one rank.
            slot: Index of the slot.
        """
        gpus = self._slots[slot]
        devices = self._needs[group.jobs[0]] if len(group.jobs) == 1 else 1
        ranks = devices or max(1, len(gpus))
        return ({VISIBLE: ",".join(gpus[:ranks])} if gpus else {}), ranks

    def _spawn(self, assignment: bytes, group: JobGroup, slot: int) -> Spawned:
        stderr = WorkerStderr()
        variables, ranks = self.slot_environment(group, slot)
        port = free_port() if ranks > 1 else 0
        if ranks > 1:
            variables |= rank_environment(0, ranks, port)
        with worker_environment(self.threads, variables), signals.blocked(signal.SIGINT):
            arguments = (assignment, ranks, port, RANK_EXIT_SECONDS)
            return Spawned(*start(self._processes, run_rank_zero, *arguments, stderr=stderr.child_end), stderr)
