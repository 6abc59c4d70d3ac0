"""What ranks above 0 do in tests. Few imports: every process imports it anew."""

import os
import signal
from pathlib import Path

from reglab.core.signals import Interrupted


def act(rank, acts, folder):
    """Do ``acts[rank - 1]``, after writing process id and variables to a file."""
    variables = [os.environ[name] for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT")]
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
