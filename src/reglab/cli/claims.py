"""``reglab claims``: six claims about regularization, each with a verdict from trainings."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reglab.cli.settings import settings
from reglab.core.errors import UserError

if TYPE_CHECKING:
    from reglab.api.claims.claim import Claim

_DESCRIPTION = (
    "Answer questions about regularization by training: each with numbers, intervals, a figure, and a verdict that is "
    "computed from the data. Writes claims.html."
)
_FLAGS = {"true": True, "false": False}


def claims(arguments: Sequence[str]) -> int:
    """Run ``reglab claims``; return 0."""
    parser = argparse.ArgumentParser(prog="reglab claims", description=_DESCRIPTION)
    parser.add_argument(
        "words",
        nargs="*",
        metavar="NAME",
        help="noise, gap, tradeoff, l1_zeros, l2_spread, choice; default: all. Then repetitions=6, "
        "counterexample=false, out=claims.html",
    )
    words = parser.parse_args(list(arguments)).words
    names = [word for word in words if "=" not in word]
    chosen = settings([word for word in words if "=" in word], ("repetitions", "counterexample", "out"))
    repetitions, counterexample = _integer(chosen.get("repetitions", "6")), _flag(chosen.get("counterexample", "false"))
    path = Path(chosen.get("out", "claims.html")).expanduser()
    if path.is_dir():
        raise UserError(f"out={path} is a folder: give the name of a file, such as out={path / 'claims.html'}")
    from rich.console import Console

    from reglab.api.claims.run import Claims, answers, table
    from reglab.training.process_state import process_restored

    console, progress, started, findings = Console(), _Progress(), time.monotonic(), []
    with process_restored():
        for finding in answers(names, repetitions, counterexample, progress):
            progress.clear()
            console.print(table(finding), "")
            findings.append(finding)
    found = Claims(tuple(findings), time.monotonic() - started)
    print(f"{found.write(path)}: figures, and how it was measured ({found.seconds:.0f} s)")
    return 0


class _Progress:
    """How many trainings are done, in one line of a terminal."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()

    def __call__(self, claim: "Claim", done: int, of: int) -> None:
        if self._shown:
            print(f"\r{claim.name}: {done} of {of} trainings", end="", file=sys.stderr, flush=True)

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
