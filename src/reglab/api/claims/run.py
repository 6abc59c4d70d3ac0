"""``reglab.claims``: train, judge, and say what the data say of each claim."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from reglab.api.claims.choice import CLAIM as CHOICE
from reglab.api.claims.claim import Claim, Finding, Found
from reglab.api.claims.gap import CLAIM as GAP
from reglab.api.claims.noise import CLAIM as NOISE
from reglab.api.claims.page import page
from reglab.api.claims.spread import CLAIM as SPREAD
from reglab.api.claims.tradeoff import CLAIM as TRADEOFF
from reglab.api.claims.trainings import Setup, Trainings, train
from reglab.api.claims.zeros import CLAIM as ZEROS
from reglab.core import atomic_write
from reglab.core.errors import UserError, nearest
from reglab.training.process_state import process_restored

CLAIMS = {each.name: each for each in (NOISE, GAP, TRADEOFF, ZEROS, SPREAD, CHOICE)}
REPETITIONS = 6
_WIDTH = 120
OnProgress = Callable[[Claim, int, int], None]


@dataclass(frozen=True)
class Claims:
    """The verdicts on claims; printed, they are a table with all numbers.

    Attributes:
        findings: One for each claim.
        seconds: That all of them took.
    """

    findings: tuple[Finding, ...]
    seconds: float

    def html(self) -> str:
        """Return all of it as one HTML page, with figures, that needs no network."""
        return page(self.findings, self.seconds)

    def write(self, path: str | Path) -> Path:
        """Write the HTML page to ``path``, and return it."""
        path = Path(path).expanduser()
        atomic_write.write(path, self.html())
        return path

    def __str__(self) -> str:
        console = Console(width=_WIDTH, color_system=None)
        with console.capture() as captured:
            for finding in self.findings:
                console.print(table(finding))
        return captured.get().rstrip()


@process_restored()
def claims(
    *names: str, repetitions: int = REPETITIONS, counterexample: bool = False, on_progress: OnProgress | None = None
) -> Claims:
    """Answer questions about regularization by training, each with a verdict.

    ``print(reglab.claims("l1_zeros"))`` trains 30 linear models at once, and says whether L1 finds the
    true features: *supported*, *not supported*, or *undecided at this size*, by the 95% intervals over
    repetitions, for which data and weights are drawn anew.

    Args:
        names: Of claims; none: all.
        repetitions: >= 2. More of them narrow the intervals.
        counterexample: Train on the counter-example of each claim, where it cannot hold.
        on_progress: Called with the claim, the number of epochs that are trained, and of those of all
            its trainings.

    Returns:
        The verdicts, in the order of ``names``.

    Raises:
        UserError: For a claim that there is not, or too few repetitions.
    """
    started = time.monotonic()
    found = tuple(answers(names, repetitions, counterexample, on_progress))
    return Claims(found, time.monotonic() - started)


def answers(
    names: Sequence[str], repetitions: int, counterexample: bool, on_progress: OnProgress | None
) -> Iterator[Finding]:
    """Yield the verdict on each claim as soon as there is one; arguments as for ``claims``.

    Claims that look at the same trainings share them.
    """
    chosen = [_claim(name) for name in dict.fromkeys(names or CLAIMS)]
    if type(repetitions) is not int or repetitions < 2:
        raise UserError(f"repetitions={repetitions!r}: an interval needs at least 2; {REPETITIONS} are the default")
    trained: list[tuple[Setup, Trainings]] = []
    for claim in chosen:
        asked = claim.countered if counterexample else claim
        trainings = next((each for setup, each in trained if setup == asked.setup), None)
        if trainings is None:
            trainings = train(asked.setup, repetitions, _reporter(asked, on_progress))
            trained.append((asked.setup, trainings))
        found = Found((), ()) if trainings.diverged else asked.judge(trainings)
        yield Finding(asked, found, repetitions, trainings.count, trainings.diverged, counterexample)


def table(finding: Finding) -> Table:
    """Return the numbers of a claim as a table for a terminal."""
    made = Table(
        title=f"{finding.claim.name}: {finding.label}\n{finding.claim.question}",
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
    )
    for heading in ("", "mean [95% interval]", "needed", ""):
        made.add_column(heading)
    for number in finding.found.numbers:
        made.add_row(*number.cells)
    if finding.diverged:
        made.add_row(f"{finding.diverged} of {finding.trained} trainings diverged", "", "", "")
    return made


def _claim(name: str) -> Claim:
    if name not in CLAIMS:
        raise UserError(f"there is no claim {name!r}: {nearest(str(name), CLAIMS)}")
    return CLAIMS[name]


def _reporter(claim: Claim, on_progress: OnProgress | None) -> Callable[[int, int], None] | None:
    if on_progress is None:
        return None
    return lambda done, of: on_progress(claim, done, of)
