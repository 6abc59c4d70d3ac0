"""Terminals that cannot show every character: plain equivalents instead of UnicodeEncodeError."""

# ruff: noqa: RUF001 - the ambiguous characters are what the table is for

import codecs
import sys
import unicodedata
from typing import TextIO

ERRORS = "reglab_plain"  # name of the error handler for codecs
_PLAIN = {
    "◀": "<", "▶": ">", "←": "<-", "→": "->", "↑": "^", "↓": "v", "…": "...", "±": "+-", "×": "x", "·": ".", "•": "*",
    "‐": "-", "‑": "-", "‒": "-", "–": "-", "—": "-", "―": "-", "−": "-", "‘": "'", "’": "'", "‚": ",",
    "“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "≤": "<=", "≥": ">=", "≠": "!=", "≈": "~", "µ": "u", "μ": "u",
    "°": "deg", "ß": "ss", "æ": "ae", "Æ": "AE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "€": "EUR",
    "✓": "v", "✗": "x", "█": "#", "╸": "-", "╺": "-", "━": "-", "─": "-", "│": "|", "┃": "|",
}  # fmt: skip


def replace_unencodable() -> None:
    """Let output of this process replace what its terminal cannot show; nothing raises any more.

    A sweep that has touched the test set must not end because ``±`` is not in the terminal's
    encoding.
    """
    codecs.register_error(ERRORS, _replace)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # a notebook's stream takes everything
        if reconfigure is not None:
            reconfigure(errors=ERRORS)


def shown(text: str, stream: TextIO | None = None) -> str:
    """Return ``text`` as the terminal will show it, so that a table knows how wide it is.

    Control characters, which a name may hold, become ``?``.

    Args:
        text: Any.
        stream: Where it is shown; None: standard output.
    """
    codecs.register_error(ERRORS, _replace)
    encoding = getattr(stream or sys.stdout, "encoding", None) or "utf-8"
    encodable = text.encode(encoding, ERRORS).decode(encoding, "surrogateescape")
    return "".join(each if each.isprintable() or each == "\n" else "?" for each in encodable)


def plain(text: str) -> str:
    """Return ``text`` in ASCII: known equivalents, letters without accents, else ``?``.

    Example:
        >>> plain("R² 0.5 ±0.1 … é 漢")
        'R2 0.5 +-0.1 ... e ?'
    """
    return "".join(character if character.isascii() else _equivalent(character) for character in text)


def _equivalent(character: str) -> str:
    if character in _PLAIN:
        return _PLAIN[character]
    if unicodedata.combining(character):
        return ""
    parts = unicodedata.normalize("NFKD", character)
    return "".join(part for part in parts if part.isascii()) or ("?" if character.isprintable() else "")


def _replace(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if "\udc80" <= character <= "\udcff":  # a byte of a file's name
        return character.encode("ascii", "surrogateescape"), error.start + 1
    return "?" if "\ud800" <= character <= "\udfff" else plain(character), error.start + 1
