"""What ranks above 0 do in tests. Few imports: every process imports it anew."""

import os
import signal
import time
from pathlib import Path

from reglab.core.signals import Interrupted
from reglab.processes.child_processes import send_errors

LONG = 60  # seconds after which a test that waits has failed


def act(rank, acts, folder):
    """Do ``acts[rank - 1]``, after writing process id and variables to a file."""
    variables = [os.environ.get(name, "") for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT")]
    Path(folder, f"{rank}.partial").write_text(f"{os.getpid()} {' '.join(variables)}")
    Path(folder, f"{rank}.partial").rename(Path(folder, f"{rank}"))
    what = acts[rank - 1]
    if what == "raise":
        raise ValueError("a bug")
    if what == "asked":
        raise Interrupted(signal.SIGTERM)
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    while what == "hang":
        signal.pause()


def sending(pipe, rank, acts, folder):
    """Do as the stand-in for a rank does, and send what it raises."""
    with send_errors(pipe):
        act(rank, acts, folder)


def interrupting(pipe, folder, parent):
    """Send the parent Ctrl-C, and save when it comes here."""
    with send_errors(pipe):
        try:
            os.kill(parent, signal.SIGINT)
            time.sleep(LONG)
        except KeyboardInterrupt:
            Path(folder, "saved").touch()
            raise
