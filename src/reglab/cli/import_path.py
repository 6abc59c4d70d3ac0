"""What can be imported by name: all that is installed, then the working folder where it is trusted."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from reglab.config.sweep_functions import values
from reglab.config.trust import KEY, given_packages, trust


def trust_given(overrides: Sequence[str]) -> None:
    """Trust the packages that the command line lists, and make those of the working folder
    importable.

    ``reglab train`` and ``reglab resume`` call it, and what they start (workers, ranks, the compile
    process) has the same path: a package of one's own has one name everywhere. The folder stands
    behind everything that is installed, so that a file such as ``torch.py`` hides nothing. Where
    none of the trusted packages lies in it, nothing in it is ever imported: libraries try names
    that need not be installed, and a stranger's folder could have them.

    Args:
        overrides: That the user gave, none of them from a file.

    Raises:
        UserError: For a name that is no top-level package's.
    """
    parser = OverridesParser.create()
    for text in overrides:
        try:
            override = parser.parse_override(text)
        except HydraException:  # reported when it is parsed for use
            continue
        if override.key_or_group == KEY and not override.is_delete():
            trust(*(name for value in _values(override) for name in value))
    here = {path.name.partition(".")[0] for path in Path().iterdir()}
    folder = os.getcwd()  # noqa: PTH109 - sys.path holds text
    if folder not in sys.path and here & set(given_packages()):
        sys.path.append(folder)


def _values(override: Override) -> list[list[Any]]:
    """Return the lists of names that an override gives, one or, in a sweep, several."""
    parser = OverridesParser.create()
    texts = values(override) if override.is_sweep_override() else []
    given: list[Any] = [parser.parse_override(f"{KEY}={text}").value() for text in texts] or [override.value()]
    return [value if isinstance(value, list) else [value] for value in given if value is not None]
