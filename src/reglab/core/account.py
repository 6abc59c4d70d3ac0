"""The account that this process runs under, where the system knows none."""

import getpass
import os
from pathlib import Path


def ensure_account() -> None:
    """Set USER and HOME where the user id has no account, as in many containers.

    Libraries ask for both when they are imported, and raise. The number stands for the name, and
    ``/``, which no other user can write to, for the home folder.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):  # by version of Python and system
        os.environ["USER"] = str(os.getuid()) if hasattr(os, "getuid") else "unknown"
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = os.sep
