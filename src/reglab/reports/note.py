"""The note of a sweep in MLflow: verdict and table as markdown."""

from reglab.analysis.selection import Choice
from reglab.analysis.sweep_data import SweepData
from reglab.analysis.verdict import Verdict
from reglab.core.markdown import plain
from reglab.reports.terminal import constant_row, headings, row
from reglab.reports.tested import Tested


def note(data: SweepData, choice: Choice, words: Verdict, test: Tested | None) -> str:
    """Return the markdown note: headline, details, test result and the blocks' choices as a table."""
    shown = [c for c in choice.candidates if c is choice.baseline or any(c is b for b in choice.blocks.values())]
    constant_rows = [found] if (found := constant_row(data, choice)) is not None else []
    names = [plain(heading) for heading in headings(data)]
    lines = [
        f"**{plain(words.headline)}**",
        "",
        *(f"- {plain(detail)}" for detail in words.details),
        *([f"- {plain(test.sentence)}"] if test else []),
        "",
        f"| {' | '.join(names)} |",
        f"|{'---|' * len(names)}",
        *(f"| {' | '.join(plain(cell) for cell in row(c, data, choice).cells)} |" for c in shown),
        *(f"| {' | '.join(plain(cell) for cell in constant.cells)} |" for constant in constant_rows),
        "",
        "The whole report, with figures, is the artifact `report.html`.",
    ]
    return "\n".join(lines)
