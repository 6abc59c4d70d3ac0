"""Error classes and the nearest valid name."""

import difflib
import errno
import re
from collections.abc import Iterable, Sequence

from reglab.core.describe_error import describe_error
from reglab.core.secrets import hide
from reglab.core.terminal import escape

# The first words of a note on an exception that ended a run, which has recorded it.
RECORDED = "This ended the run as FAILED in"
_LONGEST = 4_000  # characters of a message: a value that somebody sent may have millions
_LINE = re.compile(r"\n(?=\S)")
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.ESTALE)


class UserError(Exception):
    """Bad input. The message says what is wrong, with the value, and what to do next.

    The command line prints the message alone; ``HYDRA_FULL_ERROR=1`` shows the traceback too.
    Secrets that the value may hold, from an interpolation, are hidden, and characters that would
    steer the terminal escaped. Further lines are indented, so that no value passes for a message of
    its own; of a very long message the middle is left out.
    """

    def __str__(self) -> str:
        text = _LINE.sub("\n  ", escape(hide(super().__str__())))
        return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"


class CodeFailed(Exception):  # noqa: N818 - it says what happened
    """The code of a model, data set or regularizer raised what its callers take for something else.

    ``StopIteration`` ends a loop quietly and ``SystemExit`` a program, with exit code 0 perhaps; a
    ``KeyboardInterrupt`` that no signal raised is no interruption. The message names what it was.

    Args:
        raised: What was raised, or the call that would have ended the process.
    """

    def __init__(self, raised: BaseException | str) -> None:
        super().__init__(describe_error(raised) if isinstance(raised, BaseException) else raised)


class Diverged(Exception):  # noqa: N818 - the usual term: a run "diverged"
    """The loss stopped being finite. The message names the step, the epoch and the likely cause."""

    def __init__(self, step: int, epoch: int, lr: float) -> None:
        super().__init__(
            f"the loss stopped being finite at step {step} (epoch {epoch}), at a learning rate of {lr:g}. The likely "
            "cause is a step that is too large: try an optimizer.lr ten times smaller, or trainer.gradient_clip_norm=1"
        )
        self.step = step
        self.epoch = epoch

    @classmethod
    def untrained(cls, part: str) -> "Diverged":
        """Return the error of a model whose loss is not finite before its first step.

        Args:
            part: Which loss: ``training`` or ``validation``.
        """
        error = cls(0, 0, 0.0)
        error.args = (
            f"the {part} loss of the untrained model is not finite, so no learning rate is at fault: look for inputs "
            f"or targets of the {part} part that are far too large, and at what the model makes of them",
        )
        return error


def is_recorded(error: BaseException) -> bool:
    """Tell whether an exception ended a run, so that it is no mistake in a command.

    Args:
        error: Any.
    """
    return any(
        note.startswith(RECORDED) for each in (error, error.__cause__) for note in getattr(each, "__notes__", ())
    )


def is_full_disk(error: BaseException) -> bool:
    """Tell whether an exception says that a disk takes no more, for which no job is to blame.

    Args:
        error: Any.
    """
    return isinstance(error, OSError) and error.errno in _DISK


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return the hint ``did you mean 'x'?`` where a valid name is near, else all valid names.

    Example:
        >>> nearest("strenght", ["strength", "where"])
        "did you mean 'strength'?"
    """
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if not names:
        return "there is none to choose from"
    return f"did you mean '{close[0]}'?" if close else f"valid: {', '.join(names)}"


class Unfused(Exception):  # noqa: N818 - not an error: the jobs are regrouped
    """Jobs that were to train together cannot, or not all of them; no run was opened for any.

    Args:
        reason: One line without a full stop.
        groups: Positions of jobs to be trained apart, a group of one solo, larger ones as packs;
            empty: each by itself.
    """

    def __init__(self, reason: str, groups: Sequence[Sequence[int]] = ()) -> None:
        super().__init__(reason, tuple(tuple(group) for group in groups))
        self.reason = reason
        self.groups = tuple(tuple(group) for group in groups)
