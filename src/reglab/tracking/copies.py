"""Copies of a run's folder: only one of them may resume the run.

A folder in which its run is resumed claims it: it draws a token, keeps all that it ever drew, and
the store keeps the latest, as a tag. A store whose token a folder has never drawn belongs to a copy
that was resumed before. Through MLflow's API a tag cannot be compared and set at once; there the
store also keeps for each token which one succeeded it, as a param, which is never changed.
"""

import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from reglab.core.errors import UserError
from reglab.tracking.folder import Identity, read_identity

CLAIM = "reglab.claim"
_FIRST = "first"  # in the place of a token where there is none yet


def check_original(folder: Path, identity: Identity) -> None:
    """Check that the run in ``folder`` is not a copy of one whose folder is still in its place.

    Raises:
        UserError: Where it is.
    """
    place = Path(identity.place) if identity.place else folder
    try:
        same = place == folder or place.samefile(folder) or not {*identity.ids} & {*read_identity(place).ids}
    except (UserError, OSError):  # it was moved from there
        return
    if not same:
        raise UserError(
            f"{folder} is a copy of the run in {place}, and both would write the same run: go on with that one, or "
            "remove it first"
        )


def claimed(folder: Path, identity: Identity) -> Identity:
    """Return the identity of a run that is resumed in ``folder``, with a new claim on it."""
    return replace(identity, place=str(folder), claims=[*identity.claims, uuid.uuid4().hex])


def is_claimed_elsewhere(claims: Sequence[str], stored: str | None) -> bool:
    """Return whether another copy has gone on with a run.

    Args:
        claims: Of the folder; without any it is not checked.
        stored: The store's, if it has one.
    """
    return bool(claims) and stored is not None and stored not in claims


def succession(claim: str | None) -> str:
    """Return the param that keeps the successor of a claim.

    Args:
        claim: None for that of the first process.
    """
    return f"{CLAIM}.{claim or _FIRST}"


def is_succession(param: str) -> bool:
    """Return whether a param is one that ``succession`` returns, and none of the run's own."""
    return param.startswith(f"{CLAIM}.")


def elsewhere(run_id: str) -> str:
    """Return the message for a copy of a run that another copy has resumed."""
    return (
        f"the run {run_id} was resumed in another copy of its folder since this one was copied: use that one; what "
        "this copy recorded stays in its journal"
    )
