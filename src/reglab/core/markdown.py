"""Text that users wrote, in a note that MLflow shows as markdown."""

import re


def plain(text: str) -> str:
    """Return ``text`` so that markdown shows it as it is, in one line: no markup, no HTML, no further cell."""
    return re.sub(r"([\\`*_\[\]<>|#~&!])", r"\\\1", " ".join(text.split()))
