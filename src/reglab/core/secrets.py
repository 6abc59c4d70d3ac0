"""Hide secrets in logs, output and files.

A secret is what an interpolation reads from the environment: OmegaConf's resolver ``oc.env`` tells
each value as it gives it out, however the interpolation is written. It is hidden wherever text
leaves the process.
"""

import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TextIO, cast

from reglab.core.secret_values import texts, too_short, written_forms
from reglab.core.terminal import escape, harmless, replace_unencodable

HIDDEN = "***"
_RESOLVER = "oc.env"
# What clients of MLflow and of its artifact stores read by themselves, without an interpolation.
_CLIENTS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
            "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_CONNECTION_STRING")  # fmt: skip
# Literal, not an interpolation.
_URL_PASSWORD = re.compile(r"(?<=://)([^\s/:@${]*):((?:(?!\$\{)[^\s/])+)@")


@dataclass
class _Learned:
    """The secrets that this process knows.

    Attributes:
        values: What variables held when an interpolation read them, by (variable, value).
        forms: Their values in every encoding.
        pattern: Finds any of them; None where there are none.
        clients: The variables of ``_CLIENTS`` as they were when they were learned.
    """

    values: set[tuple[str, str]] = field(default_factory=set)
    forms: set[str] = field(default_factory=set)
    pattern: re.Pattern[str] | None = None
    clients: dict[str, str] = field(default_factory=dict)


_learned = _Learned()


@contextmanager
def isolated() -> Iterator[None]:
    """Know no secret inside the block; afterwards those known before, and log records as before."""
    global _learned
    before, factory = _learned, logging.getLogRecordFactory()
    _learned = _Learned()
    try:
        yield
    finally:
        _learned = before
        logging.setLogRecordFactory(factory)


def watch() -> None:
    """Remember each value that an interpolation reads from the environment from now on.

    They are hidden in logs, too. Before a config is composed or resolved, this comes first.
    """
    from omegaconf import OmegaConf  # late: errors.py needs this module, and starts quickly

    if not isinstance(logging.getLogRecordFactory(), _Records):
        logging.setLogRecordFactory(_Records())
    OmegaConf.register_new_resolver(_RESOLVER, _read_variable, replace=True)


def learn(config: object) -> None:
    """Remember the secrets that a config refers to, before anything else resolves it.

    They are the values of the variables that ``${oc.env:...}`` reads, and passwords in URLs. A
    variable that is called a password, token, ... counts from 4 characters on; any other from 8,
    or from 5 where its value is no plain word or number. Paths that exist, devices, addresses of
    servers without a path, and variables such as HOME, are none.

    Raises:
        UserError: For a value of a variable called a secret that is too short to be hidden.
    """
    from omegaconf import Container, OmegaConf

    watch()
    _learn_clients()
    plain = OmegaConf.to_container(config, resolve=False) if isinstance(config, Container) else config
    for text in texts(plain):
        _learn_urls(text)
    _resolve_secrets(config)


def known() -> list[tuple[str, str]]:
    """Return the variables that interpolations have read, with their values, for ``remember``."""
    return sorted(_learned.values)


def remember(values: Iterable[tuple[str, str]]) -> None:
    """Remember what another process of this program knows.

    Args:
        values: As ``known`` returned them there.
    """
    for name, value in values:
        watch()
        _learn_variable(name, value)


def hide(text: str) -> str:
    """Return ``text`` with each secret that is known, and each password in a URL, as ``***``."""
    _learn_clients()
    if _learned.pattern is not None:
        text = _learned.pattern.sub(HIDDEN, text)
    return _URL_PASSWORD.sub(rf"\1:{HIDDEN}@", text) if "://" in text else text


def guard_output() -> None:
    """Let all further output of this process, with tracebacks and warnings, pass one gate.

    Secrets are hidden, what would steer the terminal is escaped, and what its encoding lacks is
    replaced. Each process of the program calls it first, through
    ``output.prepare_output``.
    """
    replace_unencodable()
    for name in ("stdout", "stderr"):
        if not isinstance(stream := getattr(sys, name), _Guarded):
            setattr(sys, name, cast(TextIO, _Guarded(stream)))


def has_url_password(text: str) -> bool:
    """Return whether ``text`` holds a URL with a literal password."""
    return bool(_URL_PASSWORD.search(text))


class _Guarded:
    """A text stream that writes what ``hide`` and ``harmless`` leave."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(harmless(hide(text)))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        self.write("".join(lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Records:
    """Log record factory: messages and tracebacks without secrets, and that steer no terminal."""

    def __init__(self) -> None:
        self._make = logging.getLogRecordFactory()

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self._make(*args, **kwargs)
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001 - the handler reports bad arguments
            return record
        if (hidden := escape(hide(text))) != text:
            record.msg, record.args = hidden, ()
        if record.exc_info and record.exc_info[0] is not None:
            # Handlers keep what is there.
            record.exc_text = escape(hide(logging.Formatter().formatException(record.exc_info)))
        return record


def _read_variable(name: str, *default: Any) -> Any:
    """Do as OmegaConf's ``oc.env``, and remember the value."""
    from omegaconf.resolvers import oc

    if (value := os.environ.get(name)) is not None:
        _learn_variable(name, value)
    return oc.env(name, *default)


def _learn_variable(name: str, value: str) -> None:
    if (name, value) in _learned.values:
        return
    if message := too_short(name, value):
        from reglab.core.errors import UserError  # late: it imports this module

        raise UserError(message)
    _learned.values.add((name, value))
    _learn_urls(value)
    _hide_value(name, value)


def _resolve_secrets(node: object) -> None:
    """Resolve what of a config reads the environment, so that the resolver tells it."""
    from omegaconf import DictConfig, ListConfig, OmegaConf

    if isinstance(node, (Mapping, list, tuple)) and not isinstance(node, (DictConfig, ListConfig)):
        node = OmegaConf.create(_plain(node))
    if not isinstance(node, (DictConfig, ListConfig)) or node._is_none() or node._is_missing():
        return
    if node._is_interpolation():
        return
    keys: Any = range(len(node)) if isinstance(node, ListConfig) else list(node.keys())
    for key in keys:
        child: Any = node._get_node(key)
        if isinstance(child, (DictConfig, ListConfig)) and not child._is_interpolation():
            _resolve_secrets(child)
        elif child is not None and _RESOLVER in str(child._value()):
            _resolve(node, key)


def _resolve(node: Any, key: Any) -> None:
    from reglab.core.errors import UserError  # late: it imports this module

    try:
        node[key]
    except Exception as error:  # noqa: BLE001 - what cannot be resolved here is reported by who needs it
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, UserError):
                raise cause from None
            cause = cause.__cause__ or cause.__context__


def _plain(value: Any) -> Any:
    """Return a recorded config as OmegaConf takes it: what is no plain value as text."""
    if isinstance(value, Mapping):
        return {key if isinstance(key, (str, int)) else str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _learn_urls(text: str) -> None:
    for _, password in _URL_PASSWORD.findall(text):
        _hide_value("password", password)


def _learn_clients() -> None:
    for name in _CLIENTS:
        value = os.environ.get(name, "")
        if value != _learned.clients.get(name, ""):
            _learned.clients[name] = value
            _hide_value(name, value)


def _hide_value(name: str, value: str) -> None:
    forms = written_forms(name, value)
    if forms - _learned.forms:
        _learned.forms |= forms
        longest_first = sorted(_learned.forms, key=len, reverse=True)
        _learned.pattern = re.compile("|".join(map(re.escape, longest_first)))
