"""Memory that a step frees is kept for the next one."""

import ctypes
import sys

_MMAP_THRESHOLD, _TRIM_THRESHOLD, _TOP_PAD = -3, -1, -2  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Let this process keep what it frees; nothing happens where there is no glibc.

    A stacked tensor has megabytes, and glibc gives such blocks back to the system, which clears each page anew at every
    operation: that took up to half of a step that was not compiled.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return
    for name, value in ((_MMAP_THRESHOLD, 2**25), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 2**26)):
        mallopt(name, value)
