"""What can be imported by name: all that is installed, then the working folder."""

import os
import sys


def add_working_folder() -> None:
    """Make the modules of the working folder importable, behind everything that is installed.

    ``reglab train`` and ``reglab resume`` call it, and what they start (workers, ranks, the compile
    process) has the same path: a package of one's own has one name everywhere. A file that lies in
    the folder, such as ``torch.py``, hides no installed module.
    """
    folder = os.getcwd()  # noqa: PTH109 - sys.path holds text
    if folder not in sys.path:
        sys.path.append(folder)
