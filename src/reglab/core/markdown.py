"""Escape text for markdown."""

import re


def plain(text: str) -> str:
    """Return ``text`` so that markdown shows it as it is, in one line.

    No markup, no HTML, no further cell.
    """
    return re.sub(r"([\\`*_\[\]<>|#~&!])", r"\\\1", " ".join(text.split()))
