"""Worker process: runs one group of jobs after another and sends events through a pipe."""

import os
import pickle
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from reglab.config.trust import trust
from reglab.core import secrets, signals
from reglab.launchers.compose import Composer
from reglab.launchers.events import Idle
from reglab.launchers.run_group import Assignment, run_group
from reglab.processes.parent_watch import exit_with_parent
from reglab.tracking.store_gate import name_store

EXIT_SECONDS = 60.0  # for a worker without its sweep to save and record its end


def work(pipe: Connection, pickled: bytes) -> None:
    """Run the groups that come through ``pipe`` until None comes.

    Args:
        pipe: To the sweep's process.
        pickled: An ``Assignment``.
    """
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # Ctrl-C reaches only the sweep, which signals its workers
    with signals.handle_signals(ignore_repeats=True):  # the sweep repeats its signals
        _work(pipe, pickled)


def _work(pipe: Connection, pickled: bytes) -> None:
    exit_with_parent(EXIT_SECONDS)
    try:
        assignment, composer = prepare(pickled)
        while not signals.stop_signal() and (group := next_group(pipe)) is not None:
            run_group(group, assignment, composer, pipe.send)
            with suppress(BrokenPipeError, ConnectionResetError):  # the sweep is gone
                pipe.send(Idle())
    except signals.Interrupted:  # between two jobs
        pass
    exit_if_interrupted()


def next_group(pipe: Connection) -> Any:
    """Return the next group that comes through ``pipe``; None for no more, or if the sweep is gone."""
    with suppress(EOFError, OSError):
        return pipe.recv()
    return None


def exit_if_interrupted() -> None:
    """Exit as a shell would say it, so that the sweep knows it from a job that ended its process."""
    if signals.stop_signal():
        sys.exit(signals.exit_code())


def prepare(pickled: bytes) -> tuple[Assignment, Composer]:
    """Return the unpickled assignment and its composer; set up trust, secrets, stores and threads.

    Args:
        pickled: An ``Assignment``.
    """
    assignment = _unpickle(pickled)
    trust(*assignment.trusted)
    secrets.learn(assignment.config)
    name_store(*assignment.stores)
    limit_threads(assignment.settings.threads)
    return assignment, Composer(assignment.context.config_loader, assignment.config, assignment.bases)


def _unpickle(pickled: bytes) -> Assignment:
    from hydra import version
    from hydra.core.plugins import Plugins
    from hydra.core.utils import setup_globals

    # First, since it executes the plugins' modules again: instances of the earlier classes could
    # not be pickled.
    Plugins.instance()
    assignment: Assignment = pickle.loads(pickled)
    version.setbase(assignment.config.hydra.runtime.version_base)
    setup_globals()
    return assignment


def limit_threads(threads: int) -> None:
    """Set torch's number of threads, if torch is imported."""
    torch = sys.modules.get("torch")
    if torch is not None:  # the fork server has read OMP_NUM_THREADS already
        torch.set_num_threads(threads)
