"""A worker process of the local launcher: composes and runs one job after another, and reports through a pipe."""

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any

from omegaconf import DictConfig

from reglab.errors import UserError
from reglab.sweeps.compose import Composer, Order, job_config, job_folder
from reglab.sweeps.events import Advanced, Ended, Progress, ended, numbers, reporting

_SECONDS_BETWEEN_REPORTS = 0.1


@dataclass(frozen=True)
class Assignment:
    """What every job of a sweep has in common. context: Hydra's, which knows the search path and the callbacks."""

    context: Any
    config: DictConfig
    task: Callable[[DictConfig], object]
    threads: int


def work(pipe: Connection, assignment: Assignment) -> None:
    """Run the orders that come through ``pipe`` until None comes."""
    _answer_signals()
    _end_with_parent()
    _limit_threads(assignment.threads)
    try:
        composer = _composer(assignment)
        while (order := pipe.recv()) is not None:
            pipe.send(_run(order, assignment, composer, pipe))
    except (KeyboardInterrupt, EOFError, BrokenPipeError):
        return  # interrupted between two jobs, or the sweep is gone


def _composer(assignment: Assignment) -> Composer:
    from hydra import version
    from hydra.core.plugins import Plugins
    from hydra.core.utils import setup_globals

    version.setbase(assignment.config.hydra.runtime.version_base)
    Plugins.instance()  # registers the plugins' configs in this process
    setup_globals()
    return Composer(assignment.context.config_loader, assignment.config)


def _run(order: Order, assignment: Assignment, composer: Composer, pipe: Connection) -> Ended:
    folder: list[Path] = []
    try:
        with reporting(_Throttle(order.job, pipe)):
            return ended(order.job, _hydra_job(order, assignment, composer, folder))
    except (KeyboardInterrupt, SystemExit):
        return Ended(order.job, "KILLED", "interrupted")
    except UserError as error:
        _show_traceback()
        return Ended(order.job, "FAILED", str(error))
    except Exception as error:  # noqa: BLE001 - whatever a job raises, the sweep goes on
        _show_traceback()
        return Ended(order.job, "FAILED", _describe(error, folder))


def _hydra_job(order: Order, assignment: Assignment, composer: Composer, folder: list[Path]) -> object:
    from hydra.core.utils import run_job

    config = job_config(composer, order)
    folder.append(job_folder(config))
    done = run_job(
        hydra_context=assignment.context,
        task_function=assignment.task,
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
    if isinstance(done._return_value, BaseException):  # its property would print a line before raising
        raise done._return_value
    return done._return_value


def _describe(error: Exception, folder: list[Path]) -> str:
    text = f"{type(error).__name__}: {error}"
    if folder and folder[0].is_dir():
        log = folder[0] / "error.txt"
        log.write_text(traceback.format_exc(), encoding="utf-8")
        text += f" (traceback in {log})"
    return text


def _show_traceback() -> None:
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        traceback.print_exc()


class _Throttle:
    """Sends progress at most ten times a second: fast jobs have hundreds of epochs in that time."""

    def __init__(self, job: int, pipe: Connection):
        self._job, self._pipe, self._last = job, pipe, 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._last >= _SECONDS_BETWEEN_REPORTS or progress.epoch >= progress.epochs:
            self._last = now
            self._pipe.send(Advanced(self._job, progress.epoch, progress.epochs, numbers(progress.metrics)))


def _answer_signals() -> None:
    """Let the first SIGINT or SIGTERM end the job in order; later ones would interrupt its last words."""
    asked = threading.Event()

    def interrupt(number: int, frame: FrameType | None) -> None:
        if not asked.is_set():
            asked.set()
            raise KeyboardInterrupt

    if hasattr(os, "setpgrp"):
        os.setpgrp()  # a terminal's Ctrl-C goes to the sweep alone, which then tells its workers
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)


def _end_with_parent() -> None:
    """End this process in order when the sweep's process is gone, whatever ended it."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _limit_threads(threads: int) -> None:
    torch = sys.modules.get("torch")
    if torch is not None:  # preloaded, so that it has read OMP_NUM_THREADS already
        torch.set_num_threads(threads)
