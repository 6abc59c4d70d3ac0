"""Which values of environment variables are secrets, and how they look wherever they are written."""

import html
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, quote_plus

# Characters from which on a value counts: of any variable, of any whose value is no plain word, and
# of one that is called a secret.
_LONG, _MIXED, _NAMED = 8, 5, 4
_WORD = re.compile(r"[^\W\d_]+")  # such as ``train``: hiding it would hide half of what is printed
_DEVICE = re.compile(r"(?:cpu|cuda|gpu|mps|xpu|tpu)(?::\d+)?")
# The name of a server, or of a SQLite file: without a user, a path or a query it lets nobody in.
_ADDRESS = re.compile(r"https?://[^\s/@?#]+/?|sqlite:///[^@?#]*")
_SECRET = r"password|passwd|passphrase|secret|token|api_?key|credentials?|access_key|private_key"
_SECRET_NAME = re.compile(_SECRET, re.IGNORECASE)
_SECRET_KEY = re.compile(rf"(?:^|_)(?:{_SECRET}|secret_key)$", re.IGNORECASE)
_TOKEN_OF_TEXT = re.compile(r"(?:^|_)(?:pad|cls|class|mask|eos|bos|unk|sep|special|start|end|max|min|num|n)_token$")
_HARMLESS = (
    *("HOME", "USER", "USERNAME", "LOGNAME", "PWD", "OLDPWD", "TMPDIR", "TMP", "TEMP", "PATH", "PYTHONPATH"),
    *("HOSTNAME", "SHELL", "LANG", "LC_ALL", "TERM", "TZ", "EDITOR", "DISPLAY", "VIRTUAL_ENV", "CONDA_PREFIX"),
)
# Values of settings that are long enough for a secret.
_PUBLIC = (
    *("true", "false", "none", "null", "auto", "default", "classification", "multilabel", "regression", "accuracy"),
    *("RUNNING", "FINISHED", "FAILED", "KILLED"),
)


def is_secret_key(key: str) -> bool:
    """Return whether a dotted key is called a secret by its last part.

    ``pad_token`` and its like are not.
    """
    last = key.rpartition(".")[2]
    return bool(_SECRET_KEY.search(last)) and not _TOKEN_OF_TEXT.search(last.lower())


def too_short(name: str, value: str) -> str | None:
    """Return why the variable ``name``, called a secret, cannot be hidden; None where it can."""
    length = len(value.strip())
    if not 0 < length < _NAMED or not is_secret_key(name):
        return None
    return (
        f"the environment variable {name} is called a secret, and its value has {length} characters: fewer than "
        f"{_NAMED} cannot be hidden in what is printed and stored. Choose a longer one, or rename the variable"
    )


def written_forms(name: str, value: str) -> set[str]:
    """Return the texts to hide for the value of a variable: none where it is no secret.

    The value itself, its lines, what ``oc.decode`` makes of it; each quoted for JSON, Python, YAML,
    HTML, URLs and shells.

    Args:
        name: Of the variable; a value of one that is called a secret counts from 4 characters on.
        value: Of the variable.
    """
    forms: set[str] = set()
    if not _counts(name, value):
        return forms
    for part in {value, value.strip(), *_parts(value)}:
        if _counts(name, part):
            forms |= {part, json.dumps(part)[1:-1], json.dumps(part, ensure_ascii=False)[1:-1], repr(part)[1:-1]}
            forms |= {quote(part, safe=""), quote(part), quote_plus(part), html.escape(part), part.replace("'", "''")}
            forms |= {part.replace("'", "'\"'\"'"), part.replace("'", "\\'"), part.replace('"', '\\"')}
    return forms


def _counts(name: str, value: str) -> bool:
    text = value.strip()
    if name.upper() in _HARMLESS or text in _PUBLIC:
        return False
    if _SECRET_NAME.search(name):
        return len(value) >= _NAMED
    if _ADDRESS.fullmatch(text) or (os.path.isabs(value) and Path(value).exists()):  # noqa: PTH117
        return False
    return len(value) >= _LONG or (len(value) >= _MIXED and not _is_setting(text))


def _is_setting(value: str) -> bool:
    """Return whether a short value reads like a setting: a word, a number, or a device."""
    try:
        float(value)
    except ValueError:
        return bool(_WORD.fullmatch(value) or _DEVICE.fullmatch(value))
    return True


def _parts(value: str) -> Iterator[str]:
    """Yield the parts of a value: its lines, and what ``oc.decode`` makes of it."""
    if "\n" in value:
        yield from (line.strip() for line in value.splitlines())
    if value.strip()[:1] in "'\"[{":
        from yaml import YAMLError, safe_load  # late: the command line starts quickly

        try:
            yield from texts(safe_load(value))
        except YAMLError:
            return


def texts(content: object) -> Iterator[str]:
    """Yield the texts among the values of nested mappings and lists."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, Mapping):
        for value in content.values():
            yield from texts(value)
    elif isinstance(content, (list, tuple)):
        for value in content:
            yield from texts(value)
