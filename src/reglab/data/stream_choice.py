"""Whether rows are streamed or read once into memory."""

from collections.abc import Callable

import psutil

from reglab.core.errors import UserError
from reglab.data.checks import choice

CHOICES = ("auto", "true", "false")


def is_streamed(stream: bool | str, needed: int, what: str, smaller: Callable[[float], str]) -> bool:
    """Return whether the rows are streamed.

    Args:
        stream: The option: true, false or auto, which streams what does not fit into memory.
        needed: Bytes that all rows take in memory.
        what: The rows, for the message.
        smaller: Returns a way to fewer bytes, given which share of them would fit.

    Raises:
        UserError: For another option, and where rows that are not to be streamed do not fit.
    """
    chosen = choice("stream", str(stream).lower(), CHOICES)
    free = psutil.virtual_memory().available
    if chosen != "false" or needed <= free:
        return chosen == "true" or needed > free
    raise UserError(
        f"{what} need {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} are free: set data.stream=auto, which "
        f"reads them in each epoch, or take {smaller(free / needed)}"
    )
