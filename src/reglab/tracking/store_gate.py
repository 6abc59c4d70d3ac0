"""Gate for stores: what a folder or a file names is not contacted unless the user named it too.

A server gets what runs record, and the password of MLflow; a SQLite file is opened for writing.
Folders and files may be from somebody else, so the address in them decides nothing. Named is what
stands on the command line or in the variable MLFLOW_TRACKING_URI, what the built-in configuration
says, and what the user answered yes to. A SQLite file beside the run, or in the working folder,
needs no name.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from reglab.core.errors import UserError
from reglab.core.override import typed
from reglab.core.terminal import inline, word
from reglab.tracking.environment import tracking_uri
from reglab.tracking.settings import absolute_uri, local_path, redacted, sqlite_path

_ROOT = "MLFLOW_DEFAULT_ARTIFACT_ROOT"  # of MLflow: names the server or bucket of a SQLite store's artifacts
_PASSWORDS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
_PLAIN = re.compile(r"[\w.:/%-]+", re.ASCII)  # an address that neither a shell nor Hydra's grammar takes apart
OPTION = "--uri"

_named: set[str] = set()
_declined: set[str] = set()
_questions: list[Callable[[str], bool]] = []


class UnnamedStore(UserError):  # noqa: N818 - a state that the user ends by naming the store
    """A folder or a file names a store that the user did not."""


def name_store(*uris: str | None) -> None:
    """Note that the user named these stores; None is passed over."""
    _named.update(redacted(uri) for uri in uris if uri is not None)


def named_stores() -> tuple[str, ...]:
    """Return the stores that the user named in this process, for its workers."""
    return tuple(sorted(_named))


@contextmanager
def asking(ask: Callable[[str], bool] | None) -> Iterator[None]:
    """Ask the user by ``ask`` about stores that nobody named, inside the context.

    Args:
        ask: Returns whether the answer to a question is yes; None: such stores are refused.
    """
    before = list(_questions)
    _questions[:] = [ask] if ask else []
    try:
        yield
    finally:
        _questions[:] = before


@contextmanager
def isolated() -> Iterator[None]:
    """Know no named store inside the block; afterwards those known before."""
    before = set(_named), set(_declined)
    _named.clear()
    _declined.clear()
    try:
        yield
    finally:
        for known, earlier in zip((_named, _declined), before, strict=True):
            known.clear()
            known.update(earlier)


def check_store(uri: str, folder: Path, option: str = OPTION) -> str:
    """Return ``uri`` if the user named that store, or it is a SQLite file beside ``folder``.

    Args:
        uri: As a run's folder or a configuration file says.
        folder: Of the run, or the working folder.
        option: What the user types before the address to name it.

    Raises:
        UnnamedStore: Otherwise, before anything is sent; with the words that name it.
    """
    address = redacted(uri)
    if address in _named or address == _variable() or _is_beside(address, folder):
        return uri
    who = "a run's folder" if option == OPTION else "a configuration file"
    _ask_or_refuse(address, f"{who} names the store {address}", option)
    return uri


def naming_option(uri: str | None, folder: Path) -> str:
    """Return ``" --uri STORE"`` where a later command has to name the store of a run; else nothing.

    Args:
        uri: Of the store, None where there is none.
        folder: Of the run.
    """
    if uri is None or redacted(uri) == _variable() or _is_beside(redacted(uri), folder):
        return ""
    return f" {OPTION} {word(redacted(uri))}"


def check_artifact_store(uri: str, store: str) -> None:
    """Raise UnnamedStore where the artifacts of a run in a SQLite store are kept elsewhere.

    That is on a server, in a bucket, or wherever a plug-in of MLflow brings them.

    A server decides by itself where it keeps artifacts, and was named.

    Args:
        uri: Of the run's artifacts, from the store.
        store: The URI of the store.
    """
    if sqlite_path(store) is None or local_path(uri) is not None:
        return
    if urlsplit(uri).scheme == "mlflow-artifacts" and not urlsplit(uri).netloc:
        return  # of the server that has the store, and a file is none: MLflow refuses it
    address = _place(uri)
    if address not in {*map(_place, _named), _place(os.environ.get(_ROOT, ""))}:
        _ask_or_refuse(address, f"the artifacts of a run in {redacted(store)} are kept at {address}", _ROOT)


def _place(uri: str) -> str:
    """Return the server or bucket of a URI."""
    parts = urlsplit(uri)
    return redacted(f"{parts.scheme}://{parts.netloc}")


def _ask_or_refuse(address: str, what: str, option: str) -> None:
    path = sqlite_path(address)
    if path is not None and not path.exists() and option == OPTION:
        raise UnnamedStore(
            f"{inline(what)}, which is not there. If its working folder was moved, go to where it is now, and reglab "
            f"resume --here RUN gives the run its new path; if it is to be made there, add {OPTION} {word(address)}"
        )
    secret = any(os.environ.get(name) for name in _PASSWORDS)
    gets = "which would get its data and your MLflow password" if secret else "which would get its data"
    reason = f"{inline(what)}, {gets}" if sqlite_path(address) is None else f"{what}, which would be opened for writing"
    if _questions and address not in _declined:
        if _questions[-1](f"{reason}. Is that store yours?"):
            _named.add(address)
            return
        _declined.add(address)
    plain = f"{option}={address}" if _PLAIN.fullmatch(address) else typed(option, inline(address))
    given = f"add {option} {word(address)}" if option.startswith("-") else f"add {plain}"
    if option == _ROOT:
        given = f"set {_ROOT}={word(address)}"
    elsewhere = ""
    if option == OPTION:
        elsewhere = "; a folder that was copied with its store is resumed by reglab resume --here RUN" if path else ""
        elsewhere += "; if it is not, reglab.load(FOLDER) reads the model without a store"
    raise UnnamedStore(f"{reason}, and you have not named it. If it is yours, {given}{elsewhere}")


def _variable() -> str | None:
    if tracking_uri() is None:
        return None
    try:
        return redacted(absolute_uri(None, Path.cwd()))
    except UserError:  # a kind of store that we do not use
        return None


def _is_beside(uri: str, folder: Path) -> bool:
    """Return whether ``uri`` is a SQLite file in the working folder, or in one that has the run."""
    path = sqlite_path(uri)
    if path is None:
        return False
    real, folder, here = path.resolve(), folder.resolve(), Path.cwd().resolve()
    return folder.is_relative_to(real.parent) or any(real.is_relative_to(each) for each in (folder, here))
