"""``reglab claims``: six claims about regularization, each with a verdict from trainings."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reglab.cli.completion import CLAIMS
from reglab.cli.settings import settings
from reglab.core.errors import UserError

if TYPE_CHECKING:
    from reglab.api.claims.claim import Claim

_DESCRIPTION = (
    "Answer questions about regularization by training: each with numbers, intervals, a figure, and a verdict that is "
    "computed from the data. Writes claims.html."
)
_TITLE, _HEAD = b"<title>Claims about regularization</title>", 1000
_FLAGS = {"true": True, "false": False}


def claims(arguments: Sequence[str]) -> int:
    """Run ``reglab claims``; return 0."""
    parser = argparse.ArgumentParser(prog="reglab claims", description=_DESCRIPTION)
    parser.add_argument(
        "words",
        nargs="*",
        metavar="NAME",
        help=f"{', '.join(CLAIMS)}; default: all. Then repetitions=6, counterexample=false, out=claims.html",
    )
    words = parser.parse_args(list(arguments)).words
    names = [word for word in words if "=" not in word]
    chosen = settings([word for word in words if "=" in word], ("repetitions", "counterexample", "out"))
    counterexample = _flag(chosen.get("counterexample", "false"))
    path = Path(chosen.get("out", "claims.html")).expanduser()
    _check_out(path)
    from rich.console import Console

    from reglab.api.claims.run import REPETITIONS, Claims, answers, table
    from reglab.training.process_state import process_restored

    repetitions = _integer(chosen["repetitions"]) if "repetitions" in chosen else REPETITIONS
    console, progress, started, findings = Console(), _Progress(), time.monotonic(), []
    with process_restored():
        for finding in answers(names, repetitions, counterexample, progress):
            progress.clear()
            console.print(table(finding), "")
            findings.append(finding)
    found = Claims(tuple(findings), time.monotonic() - started)
    print(f"{found.write(path)}: figures, and how it was measured ({found.seconds:.0f} s)")
    return 0


def _check_out(path: Path) -> None:
    """Raise UserError, before anything is trained, where the page cannot be written or would replace
    something else.
    """
    if path.is_dir():
        raise UserError(f"out={path} is a folder: give the name of a file, such as out={path / 'claims.html'}")
    if path.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"out={path}: let its name end in .html")
    if not path.parent.is_dir():
        raise UserError(f"out={path}: there is no folder {path.parent}: make it first")
    if path.exists() and _TITLE not in path.read_bytes()[:_HEAD]:
        raise UserError(f"{path} is there already, and is no page of claims: give another name by out=FILE.html")


class _Progress:
    """What share of a claim's training is done, in one line of a terminal."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()

    def __call__(self, claim: "Claim", done: int, of: int) -> None:
        if self._shown:
            print(f"\r{claim.name}: {100 * done // of}% trained", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UserError(f"repetitions={text} must be a number, such as repetitions=10") from None


def _flag(text: str) -> bool:
    if text.lower() not in _FLAGS:
        raise UserError(f"counterexample={text} must be true or false")
    return _FLAGS[text.lower()]
