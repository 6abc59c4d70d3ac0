"""``Section``: a part of a sweep's report that is sentences."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        title: Its heading.
        sentences: What it says.
        caption: How it was found.
        in_terminal: Whether the terminal shows it, too.
    """

    title: str
    sentences: tuple[str, ...]
    caption: str
    in_terminal: bool = False
