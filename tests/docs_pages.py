"""The pages of the documentation, cut into their fenced blocks."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
_FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# ([\w./-]+/[\w.-]+\.(?:py|yaml))\n")
MARK = re.compile(r"<!-- test: (compose only|skip), ([^\n]+?) -->\n\Z")


@dataclass(frozen=True)
class Block:
    """A fenced block. line: of its fence. file: which the block is to be, by its first line.

    mark: an HTML comment above it, ``<!-- test: compose only, REASON -->`` or ``<!-- test: skip, REASON -->``.
    """

    language: str
    text: str
    line: int
    file: str | None
    mark: str | None


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page in their order."""
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        file, mark = _FILE.match(found[2]), MARK.search(text[: found.start()])
        line = text.count("\n", 0, found.start()) + 1
        yield Block(found[1].strip(), found[2], line, file and file[1], mark and mark[1])


def files_of(page: Path) -> set[str]:
    """Return the files that a page's own examples are, which need not be there."""
    return {block.file for block in blocks(page) if block.file}
