"""Hide secrets in logs, output and files.

Learned from a config's interpolations, hidden wherever text leaves the process.
"""

import html
import json
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO, cast
from urllib.parse import quote, quote_plus

HIDDEN = "***"
# Characters from which on a value counts: of any variable, of one that is called secret.
_LONG, _NAMED = 8, 4
_SECRET = r"password|passwd|passphrase|secret|token|api_?key|credentials?|access_key|private_key"
_SECRET_NAME = re.compile(_SECRET, re.IGNORECASE)
_SECRET_KEY = re.compile(rf"(?:^|_)(?:{_SECRET}|secret_key)$", re.IGNORECASE)
_TOKEN_OF_TEXT = re.compile(r"(?:^|_)(?:pad|cls|class|mask|eos|bos|unk|sep|special|start|end|max|min|num|n)_token$")
# What clients of MLflow and of its artifact stores read by themselves, without an interpolation.
_CLIENTS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
            "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_CONNECTION_STRING")  # fmt: skip
_HARMLESS = (
    *(
        "HOME",
        "USER",
        "USERNAME",
        "LOGNAME",
        "PWD",
        "OLDPWD",
        "TMPDIR",
        "TMP",
        "TEMP",
        "PATH",
        "PYTHONPATH",
        "HOSTNAME",
    ),
    *("SHELL", "LANG", "LC_ALL", "TERM", "TZ", "EDITOR", "DISPLAY", "VIRTUAL_ENV", "CONDA_PREFIX"),
)
# Values of settings that are long enough for a secret.
_PUBLIC = (
    *("true", "false", "none", "null", "auto", "default", "classification", "multilabel", "regression", "accuracy"),
    *("RUNNING", "FINISHED", "FAILED", "KILLED"),
)
_READ = re.compile(r"oc\.env\s*:\s*[\"']?([^\s,}\"'$]+)")
# Literal, not an interpolation.
_URL_PASSWORD = re.compile(r"(?<=://)([^\s/:@${]*):((?:(?!\$\{)[^\s/])+)@")


@dataclass
class _Learned:
    """The secrets that this process knows.

    Attributes:
        forms: Their values in every encoding.
        pattern: Finds any of them; None where there are none.
        clients: The variables of ``_CLIENTS`` as they were when they were learned.
    """

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


def learn(config: object) -> None:
    """Remember the secrets that an unresolved config refers to, and hide them in logs.

    They are the values of the variables that ``${oc.env:...}`` names, from 8 characters on (4 where
    the variable is called a password, token, ...), and passwords in URLs. Paths that exist, and
    variables such as HOME, are none.
    """
    for text in _texts(config):
        _learn_urls(text)
        for name in _READ.findall(text):
            value = os.environ.get(name, "")
            _learn_urls(value)
            if _counts(name, value):
                _remember(value, _NAMED if _SECRET_NAME.search(name) else _LONG)
    _learn_clients()
    if not isinstance(logging.getLogRecordFactory(), _Records):
        logging.setLogRecordFactory(_Records())


def hide(text: str) -> str:
    """Return ``text`` with each secret that is known, and each password in a URL, as ``***``."""
    _learn_clients()
    if _learned.pattern is not None:
        text = _learned.pattern.sub(HIDDEN, text)
    return _URL_PASSWORD.sub(rf"\1:{HIDDEN}@", text) if "://" in text else text


def hide_output() -> None:
    """Hide secrets in all further output of this process, including tracebacks."""
    for name in ("stdout", "stderr"):
        if not isinstance(stream := getattr(sys, name), _Hiding):
            setattr(sys, name, cast(TextIO, _Hiding(stream)))


def is_secret_key(key: str) -> bool:
    """Return whether a dotted key is called a secret by its last part.

    ``pad_token`` and its like are not.
    """
    last = key.rpartition(".")[2]
    return bool(_SECRET_KEY.search(last)) and not _TOKEN_OF_TEXT.search(last.lower())


def has_url_password(text: str) -> bool:
    """Return whether ``text`` holds a URL with a literal password."""
    return bool(_URL_PASSWORD.search(text))


class _Hiding:
    """A text stream that writes what ``hide`` leaves."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(hide(text))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        self.write("".join(lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Records:
    """Log record factory that hides secrets in messages and tracebacks."""

    def __init__(self) -> None:
        self._make = logging.getLogRecordFactory()

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self._make(*args, **kwargs)
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001 - the handler reports bad arguments
            return record
        if (hidden := hide(text)) != text:
            record.msg, record.args = hidden, ()
        if record.exc_info and record.exc_info[0] is not None:
            # Handlers keep what is there.
            record.exc_text = hide(logging.Formatter().formatException(record.exc_info))
        return record


def _texts(config: object) -> Iterator[str]:
    # Late: errors.py needs this module, and starts quickly.
    from omegaconf import Container, OmegaConf

    if isinstance(config, Container):
        config = OmegaConf.to_container(config, resolve=False)
    if isinstance(config, str):
        yield config
    elif isinstance(config, Mapping):
        for value in config.values():
            yield from _texts(value)
    elif isinstance(config, (list, tuple)):
        for value in config:
            yield from _texts(value)


def _counts(name: str, value: str) -> bool:
    if name.upper() in _HARMLESS or value.strip() in _PUBLIC:
        return False
    if _SECRET_NAME.search(name):
        return len(value) >= _NAMED
    return len(value) >= _LONG and not (os.path.isabs(value) and Path(value).exists())  # noqa: PTH117


def _learn_urls(text: str) -> None:
    for _, password in _URL_PASSWORD.findall(text):
        _remember(password, _NAMED)


def _learn_clients() -> None:
    for name in _CLIENTS:
        value = os.environ.get(name, "")
        if value != _learned.clients.get(name, ""):
            _learned.clients[name] = value
            _remember(value, _NAMED)


def _remember(value: str, least: int) -> None:
    """Remember a secret in every encoding in which it may occur.

    Quoted for JSON, Python, YAML, HTML, URLs and shells.
    """
    forms: set[str] = set()
    for part in {value, value.strip(), *_parts(value)}:
        if len(part) >= least and part not in _PUBLIC:
            forms |= {part, json.dumps(part)[1:-1], json.dumps(part, ensure_ascii=False)[1:-1], repr(part)[1:-1]}
            forms |= {quote(part, safe=""), quote(part), quote_plus(part), html.escape(part), part.replace("'", "''")}
            forms |= {part.replace("'", "'\"'\"'"), part.replace("'", "\\'"), part.replace('"', '\\"')}
    if forms - _learned.forms:
        _learned.forms |= forms
        longest_first = sorted(_learned.forms, key=len, reverse=True)
        _learned.pattern = re.compile("|".join(map(re.escape, longest_first)))


def _parts(value: str) -> Iterator[str]:
    """Yield the parts of a value: its lines, and what ``oc.decode`` makes of it."""
    if "\n" in value:
        yield from (line.strip() for line in value.splitlines())
    if value.strip()[:1] in "'\"[{":
        from yaml import YAMLError, safe_load  # late, as above

        try:
            yield from _texts(safe_load(value))
        except YAMLError:
            return
