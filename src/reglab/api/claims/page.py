"""The verdicts on claims as one self-contained HTML page."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from reglab.analysis.formatting import plural
from reglab.api.claims.claim import Finding
from reglab.api.claims.figure import picture
from reglab.reports.html import environment

_MARKS = {"supported": "yes", "not supported": "no", "undecided": "open"}  # classes of the style sheet


@dataclass(frozen=True)
class Section:
    """A claim as the page shows it.

    Attributes:
        finding: Of it.
        mark: Class of its verdict.
        rows: Of its table.
        svg: Its figure; empty if there is none.
        repeat: The command that does it again.
    """

    finding: Finding
    mark: str
    rows: tuple[tuple[str, ...], ...]
    svg: str
    repeat: str


def page(findings: Sequence[Finding], seconds: float) -> str:
    """Return the whole page as HTML text.

    Args:
        findings: In the order of the page.
        seconds: That all of them took.
    """
    return (
        environment()
        .get_template("claims.html")
        .render(
            sections=[_section(finding) for finding in findings],
            when=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            took=f"{seconds:.0f} s",
            repetitions=plural(findings[0].repetitions, "repetition"),
            on_counterexample=findings[0].on_counterexample,
        )
    )


def _section(finding: Finding) -> Section:
    words = ["reglab", "claims", finding.claim.name, f"repetitions={finding.repetitions}"]
    words += ["counterexample=true"] if finding.on_counterexample else []
    panels = finding.found.panels
    return Section(
        finding,
        _MARKS[finding.verdict],
        tuple(number.cells for number in finding.found.numbers),
        picture(finding.claim.name, finding.claim.question, panels) if panels else "",
        shlex.join(words),
    )
