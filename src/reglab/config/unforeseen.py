"""Convert errors that a value of a config or checkpoint causes into UserError.

They become one sentence, unless the user's own code raised them.

Configurations and checkpoints may be from somebody else, and hold any type and size anywhere.
"""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reglab.config.trust import is_given
from reglab.core.describe_error import describe_error
from reglab.core.errors import UserError

OF_VALUES = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RuntimeError, MemoryError)
_ON_DEVICE = "OutOfMemoryError"  # of torch: who packs jobs makes smaller packs


@contextmanager
def value_errors_as_user_errors(what: str) -> Iterator[None]:
    """Raise UserError for what a wrong value causes inside the context.

    Errors that pass through a package that the user trusts are raised as they are.

    Args:
        what: Is read, for the message.

    Raises:
        UserError: With the error in one line, and where it arose.
    """
    try:
        yield
    except OF_VALUES as error:
        frames = list(traceback.walk_tb(error.__traceback__))
        names = [str(frame.f_globals.get("__name__", "")) for frame, _ in frames]
        if type(error).__name__ == _ON_DEVICE or any(map(is_given, names)):
            raise
        ours = [frame for (frame, _), name in zip(frames, names, strict=True) if _is_ours(name)]
        where = f" (in {Path(ours[-1].f_code.co_filename).name})" if ours else ""
        raise UserError(
            f"{what} cannot be used: {describe_error(error)}{where}. A value has another type or size than its key "
            "takes: compare it with the built-in one (reglab train --cfg job); HYDRA_FULL_ERROR=1 shows where"
        ) from error


def _is_ours(module: str) -> bool:
    return module.startswith("reglab.") and module != __name__
