"""``sweep.register``: register the model of the chosen setting when a sweep ends."""

import re
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from reglab.core.errors import UserError

_ALIAS = re.compile(r"[\w-]{1,255}", re.ASCII)
_RESERVED = re.compile(r"latest|v\d+", re.IGNORECASE)


class RegisteredName(NamedTuple):
    """Where a model is registered.

    Args:
        name: Of the registered model.
        alias: That the version gets; None: none.
    """

    name: str
    alias: str | None

    def of(self, data_set: str) -> "RegisteredName":
        """Return the name for a data set of several: ``prices-wine``; itself for none."""
        return self._replace(name=f"{self.name}-{data_set}") if data_set else self


def registered_name(sweep: Mapping[str, Any], backend: str) -> RegisteredName | None:
    """Return what ``sweep.register`` names: ``prices`` or ``prices@champion``; None without it.

    Args:
        sweep: The node of the config.
        backend: Of tracking.

    Raises:
        UserError: For a name or alias that MLflow does not take, and where nothing would be
            registered.
    """
    given = sweep.get("register")
    if given is None:
        return None
    name, at, alias = str(given).partition("@")
    if not isinstance(given, str) or not name.strip() or set(name) & set("/:\\") or name.strip(".") == "":
        raise UserError(f"sweep.register={given} is no name of a model in MLflow: give one, as sweep.register=prices")
    if at and (not _ALIAS.fullmatch(alias) or _RESERVED.fullmatch(alias)):
        raise UserError(
            f"sweep.register={given}: {alias!r} is no alias in MLflow: letters, digits, _ and -, but neither latest "
            "nor v1, such as sweep.register=prices@champion"
        )
    if backend != "mlflow":
        raise UserError(
            f"sweep.register={given} needs tracking=mlflow, where models are registered: leave it out, or after "
            "reglab sync give reglab register SWEEP name=NAME"
        )
    if not sweep.get("report", True):
        raise UserError(f"sweep.register={given} takes the sweep's choice, and sweep.report=false makes none")
    return RegisteredName(name, alias or None)


def register_choice(run_id: str, wanted: RegisteredName, uri: str) -> None:
    """Register the model of a run, and say so, or why not; again, it makes nothing twice.

    Args:
        run_id: Of the first run of the chosen setting.
        wanted: The name.
        uri: Of the store.
    """
    from reglab.inference.register import register  # late: torch

    name, alias = wanted
    try:
        made = register(run_id, name, alias, uri)
    except UserError as error:  # the sweep has its result
        print(f"the choice is not registered: {error}", file=sys.stderr)
        return
    print(f"Registered: {name} version {made.version}" + (f", alias {alias}" if alias else "") + f" ({made.run})")
