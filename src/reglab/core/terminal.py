"""Text for terminals: plain equivalents of what they cannot show, and nothing that steers them.

Names of a store, of folders and in a server's messages may be from somebody else. ``inline`` is
for such a name in a sentence, ``word`` in a command that a sentence advises; ``escape`` for a whole
message; ``harmless`` for a stream, which carries the styles and the progress bars of programs as
well.
"""

# ruff: noqa: RUF001 - the ambiguous characters are what the table is for

import codecs
import os
import re
import shlex
import sys
import unicodedata
from typing import TextIO

# What moves, styles or clears within the screen; all else (titles, links, the clipboard, answers that
# a terminal types) begins with the same character.
_STYLE = re.compile(r"\x1b\[[0-9;:]*[mABCDGHJK]|\x1b\[\?(?:25|7|2026)[lh]")
# Control characters but tab, newline, return and backspace; and those that turn the direction of text.
_STEERING = re.compile(
    r"[\x00-\x07\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]"
)
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


def escape(text: str) -> str:
    """Return ``text`` with each character that would steer a terminal as its escape, as in Python.

    Newlines and tabs stay.
    """
    return _STEERING.sub(_escaped, text.replace("\r", "\\r").replace("\b", "\\b"))


def inline(text: object) -> str:
    """Return a name as part of a line: as ``escape`` does, and newlines and tabs escaped, too."""
    name = str(text)
    return name if name.isprintable() else escape(name).replace("\n", "\\n").replace("\t", "\\t")


def word(text: object) -> str:
    """Return a name as a word that can be pasted into a shell, which makes nothing of it.

    Args:
        text: The name.
    """
    return shlex.quote(inline(text))


def bash_word(path: str) -> str:
    """Return a path as a word for bash or zsh, whatever bytes its names have.

    Args:
        path: As the system gives it.
    """
    if path.isprintable():
        return shlex.quote(path)
    plain = (chr(byte) if 32 <= byte < 127 and byte not in b"'\\" else f"\\x{byte:02x}" for byte in os.fsencode(path))
    return f"$'{''.join(plain)}'"


def harmless(text: str) -> str:
    """Return ``text`` with what steers a terminal escaped, except styles and moves of the cursor."""
    if not _STEERING.search(text):
        return text
    pieces, styles = _STYLE.split(text), [*_STYLE.findall(text), ""]
    return "".join(_STEERING.sub(_escaped, piece) + style for piece, style in zip(pieces, styles, strict=True))


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


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
