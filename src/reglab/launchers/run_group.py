"""Run a group of jobs in a worker process: compose, train alone or fused, send events."""

import contextlib
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from reglab.config.job_request import JobRequest, attach
from reglab.config.pack_settings import PackSettings
from reglab.core import descriptors
from reglab.core.errors import Unfused, UserError
from reglab.core.secrets import hide
from reglab.launchers.compose import Bases, Composer, JobGroup, job_config
from reglab.launchers.events import (
    Ended,
    EpochEnded,
    Event,
    Progress,
    Regrouped,
    Status,
    end_from_result,
    numbers,
    reporting,
)
from reglab.launchers.packing import regroup, split_evenly

_SECONDS_BETWEEN_REPORTS = 0.1
_REPORTS_A_SECOND = 200  # of all members of a pack together

Send = Callable[[Event], None]
TrainPack = Callable[
    [
        Sequence[DictConfig],
        Sequence[JobRequest],
        PackSettings,
        Callable[[int, Progress], None] | None,
        Callable[[int, Any], None],
    ],
    None,
]


@dataclass(frozen=True)
class Assignment:
    """What all jobs of a sweep have in common.

    Attributes:
        context: Hydra's, which knows the search path and the callbacks.
        config: Of the whole sweep.
        task: Trains one job; it takes the request out of the config.
        train_pack: Trains several jobs fused.
        settings: Of packs.
        bases: Composed bases, see ``compose.Composer``.
    """

    context: Any
    config: DictConfig
    task: Callable[[DictConfig], object]
    train_pack: TrainPack
    settings: PackSettings
    bases: Bases


def run_group(group: JobGroup, assignment: Assignment, composer: Composer, send: Send) -> None:
    """Run the jobs of a group, one alone or several as a pack, and send their events.

    A pack may send ``Regrouped`` instead of ends. Where the sweep's process is gone, events are
    dropped; a signal ends training then.

    Args:
        group: The group.
        assignment: Of the sweep.
        composer: Of the sweep.
        send: Receives the events.
    """

    def send_event(event: Event) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            send(event)

    if len(group.jobs) > 1:
        _Pack(group, assignment, composer, send_event).run()
    else:
        send_event(_run_alone(group.requests[0], assignment, composer, send_event))


def _run_alone(request: JobRequest, assignment: Assignment, composer: Composer, send: Send) -> Ended:
    job = request.number
    throttle = _Throttle((job,), send)
    try:
        with reporting(lambda progress: throttle(0, progress)):
            return end_from_result(job, _hydra_job(request, assignment, composer))
    except (KeyboardInterrupt, SystemExit):
        return Ended(job, "KILLED", "interrupted")
    except UserError as error:
        _show_traceback()
        return Ended(job, "FAILED", str(error))
    except Exception as error:  # noqa: BLE001 - whatever a job raises, the sweep continues
        _show_traceback()
        return Ended(job, "FAILED", _describe(error, [request.folder]))


def _hydra_job(request: JobRequest, assignment: Assignment, composer: Composer) -> object:
    from hydra.core.utils import run_job

    returned = run_job(
        hydra_context=assignment.context,
        task_function=lambda config: assignment.task(attach(config, request)),
        config=job_config(composer, request),
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
    if isinstance(returned._return_value, BaseException):  # the property would print a line
        raise returned._return_value
    return returned._return_value


class _Pack:
    """The jobs of one group while they train fused."""

    def __init__(self, group: JobGroup, assignment: Assignment, composer: Composer, send: Send):
        self._group, self._assignment, self._composer, self._send = group, assignment, composer, send
        self._running = list(group.jobs)
        self._killed: dict[int, Ended] = {}  # unsent: Unfused may name them again

    def run(self) -> None:
        requests, settings = self._group.requests, self._assignment.settings
        try:
            configs = [job_config(self._composer, request, lean=True) for request in requests]
            throttle = _Throttle(self._group.jobs, self._send)
            self._assignment.train_pack(configs, requests, settings, throttle, self._end)
            self._end_rest("FAILED", "its pack ended without a result for it")
        except (KeyboardInterrupt, SystemExit):
            self._end_rest("KILLED", "interrupted")
        except Unfused as error:
            done = [job for job in self._group.jobs if job not in self._unfinished()]
            self._send(Regrouped(tuple(regroup(self._group.jobs, error.groups, done)), error.reason))
        except UserError as error:  # of some job: halving isolates it
            _show_traceback()
            self._halve(str(error))
        except Exception as error:  # noqa: BLE001 - whatever a pack raises, the sweep continues
            _show_traceback()
            again = not isinstance(error, OSError) or descriptors.is_shortage(error)  # not on a full disk
            if len(self._unfinished()) > 1 and again:
                self._halve(f"{type(error).__name__}: {error}")
            else:
                self._end_rest("FAILED", _describe(error, [request.folder for request in requests]))

    def _unfinished(self) -> list[int]:
        """Return the jobs that have not ended, in their order."""
        return [job for job in self._group.jobs if job in self._running or job in self._killed]

    def _halve(self, reason: str) -> None:
        groups = [group for group in split_evenly(self._unfinished(), 2) if group]
        self._send(Regrouped(tuple(groups), hide(reason).partition("\n")[0]))

    def _end(self, position: int, result: object) -> None:
        end = end_from_result(self._group.jobs[position], result)
        self._running.remove(end.job)
        if end.status == "KILLED":
            self._killed[end.job] = end
        else:
            self._send(end)

    def _end_rest(self, status: Status, message: str) -> None:
        for end in [*self._killed.values(), *(Ended(job, status, message) for job in self._running)]:
            self._send(end)


class _Throttle:
    """Limits the progress events of a group to ten a second and job, less for large packs.

    The last epoch of a job is always sent.
    """

    def __init__(self, jobs: Sequence[int], send: Send):
        self._jobs, self._send = jobs, send
        self._between = max(_SECONDS_BETWEEN_REPORTS, len(jobs) / _REPORTS_A_SECOND)
        self._last = [float("-inf")] * len(jobs)

    def __call__(self, position: int, progress: Progress) -> None:
        now = time.monotonic()
        doing = str(getattr(progress, "doing", ""))
        if now - self._last[position] >= self._between or progress.epoch >= progress.epochs or doing:
            self._last[position] = now
            metrics = numbers(progress.metrics)
            self._send(EpochEnded(self._jobs[position], progress.epoch, progress.epochs, metrics, doing))


def _describe(error: Exception, folders: Sequence[Path]) -> str:
    text = hide(f"{type(error).__name__}: {error}")
    folder = next((folder for folder in folders if folder.is_dir()), None)
    if folder is not None:
        log = folder / "error.txt"
        log.write_text(hide(traceback.format_exc()), encoding="utf-8")
        text += f" (traceback in {log})"
    return text


def _show_traceback() -> None:
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        print(hide(traceback.format_exc()), end="", file=sys.stderr)
