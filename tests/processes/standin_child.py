"""A child process that watches its parent, in tests. Few imports: every process imports it anew."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from reglab.processes.child_processes import start as start_child
from reglab.processes.parent_watch import exit_with_parent

LONG = 60  # seconds after which a test that waits has failed


def start(method, what, file):
    """Start a child by a start method of multiprocessing, or as a script; print its id when it is ready; wait."""
    if method == "script":
        command = [
            sys.executable,
            "-c",
            f"from tests.processes.standin_child import act; act(None, {what!r}, {file!r})",
        ]
        subprocess.Popen(command)
    else:
        _, pipe = start_child(multiprocessing.get_context(method), act, what, file)
        print(pipe.recv(), flush=True)
    threading.Event().wait()


def act(pipe, what, file):
    """Watch the parent, send or print the own id, and do ``what``: save on SIGTERM, or hang."""
    if what != "hangs without a signal":
        signal.signal(signal.SIGTERM, lambda *_: append(file, "SIGTERM"))
    if what == "leads a group":
        os.setpgrp()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        append(file, str(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid))
    exit_with_parent(LONG if what == "saves" else 0.5, terminate=what != "hangs without a signal")
    if pipe is None:
        print(os.getpid(), flush=True)
    else:
        pipe.send(os.getpid())
    while what == "saves" and not Path(file).exists():
        time.sleep(0.01)
    if what == "saves":
        append(file, " saved")
        return
    threading.Event().wait(600)


def append(file, text):
    with open(file, "a") as told:  # noqa: PTH123 - also from a signal's handler
        told.write(text)
