"""The results table of a sweep, for the terminal."""

from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from reglab.analysis.formatting import SCORES, bracket, compact, number, percent, spread
from reglab.analysis.grouping import short_key
from reglab.analysis.selection import Candidate, Choice
from reglab.analysis.sweep_data import SweepData
from reglab.analysis.warnings import underfits
from reglab.core.terminal import shown

MOST_ROWS = 40
WIDE = 100
_GAP, _LEFT_OUT_WHEN_NARROW = 5, (4, 7)


@dataclass(frozen=True)
class TableRow:
    """A candidate's numbers as text, for terminal and page."""

    block: str
    setting: str
    loss: str
    score: str
    train_score: str
    gap: str
    zeros: str
    runs: str
    mark: str
    chosen: bool

    @property
    def cells(self) -> tuple[str, ...]:
        """The texts in the order of ``headings``."""
        return (
            self.block, self.setting, self.loss, self.score, self.train_score,
            self.gap, self.zeros, self.runs, self.mark,
        )  # fmt: skip


def headings(data: SweepData) -> tuple[str, ...]:
    """Return the column headings for ``TableRow``."""
    score = SCORES.get(data.score, data.score)
    return (
        "regularizer", "strength", "val loss ±SE", f"val\n{score}", f"train\n{score}",
        f"gap in loss [{data.level}]", "exact\nzeros", "runs", "",
    )  # fmt: skip


def row(candidate: Candidate, data: SweepData, choice: Choice) -> TableRow:
    """Return a candidate's row."""
    loss = candidate.estimate("val/loss") if candidate.has("val/loss") else None
    return TableRow(
        block=candidate.block,
        setting=setting(candidate),
        loss=spread(loss.mean, loss.error) if loss else "-",
        score=number(candidate.mean(f"val/{data.score}")),
        train_score=number(candidate.mean(f"train/{data.score}")),
        gap=bracket(candidate.interval("gap/loss")),
        zeros=percent(candidate.zeros),
        runs=f"{len(candidate.trials)}/{len(candidate.trials) + candidate.missing}"
        if candidate.missing
        else str(len(candidate.trials)),
        mark=mark(candidate, choice),
        chosen=candidate is choice.chosen,
    )


def constant_row(data: SweepData, choice: Choice) -> TableRow | None:
    """Return the row of the constant predictor; None where runs do not record it."""
    values = {key: choice.comparison.constant_value(choice.chosen, key) for key in ("val/loss", f"val/{data.score}")}
    loss, score = values["val/loss"], values[f"val/{data.score}"]
    if loss is None:
        return None
    return TableRow(
        "constant", "", number(loss), "-" if score is None else number(score), "-", "-", "-", "-", "", False
    )


def setting(candidate: Candidate) -> str:
    """Return strength and whatever else varies in the candidate's block, as text."""
    name = f"{candidate.number}=" if candidate.number else ""
    strength = [name + compact(candidate.strength)] if candidate.strength is not None else []
    others = (f"{short_key(key, candidate.settings)}={value}" for key, value in candidate.settings.items())
    return " ".join([*strength, *others])


def mark(candidate: Candidate, choice: Choice) -> str:
    """Return the last cell: choice, best, partial (runs are missing), underfits, or empty."""
    if candidate is choice.chosen:
        return "◀ choice"
    if candidate is choice.best:
        return "best"
    if candidate.missing:
        return "partial"
    return "underfits" if underfits(choice, candidate) else ""


def table(data: SweepData, choice: Choice, columns: int = WIDE) -> Table:
    """Return the table of a sweep's candidates, the chosen one marked.

    Beyond ``MOST_ROWS`` candidates it keeps those with the best mean; the caption says so.

    Args:
        data: Of the sweep.
        choice: The choice.
        columns: Of the terminal. At most 100 are used; on fewer, training score and runs are left
            out.
    """
    kept = sorted(choice.candidates, key=choice.loss)[:MOST_ROWS]
    left_out = len(choice.candidates) - len(kept)
    title = Text(shown(f"{data.name}: {len(choice.candidates)} settings"))
    caption = f"{left_out} more settings are in the report" if left_out else None
    drawn = Table(title=title, caption=caption, title_justify="left", box=SIMPLE_HEAD, show_edge=False, padding=0)
    shown_columns = [
        column for column in range(len(headings(data))) if columns >= WIDE or column not in _LEFT_OUT_WHEN_NARROW
    ]
    for column in shown_columns:
        heading = headings(data)[column]
        drawn.add_column(
            Text(shown(heading)),
            justify="left" if column in (0, 1, 8) else "right",
            max_width=16 if column in (0, 1) or (column == _GAP and columns < WIDE) else None,
            min_width=9 if column in (0, 1) else None,
            overflow="fold",
            no_wrap=column not in (0, 1, _GAP),  # only names may wrap
        )
    rows = [c for c in choice.candidates if c in kept]
    for candidate, following in zip(rows, [*rows[1:], None], strict=True):
        table_row = row(candidate, data, choice)
        style = "bold green" if table_row.chosen else ("dim" if table_row.mark in ("underfits", "partial") else "")
        drawn.add_row(*(Text(shown(table_row.cells[column])) for column in shown_columns), style=style)
        if following is None or following.block != candidate.block:
            drawn.add_section()
    if (constant := constant_row(data, choice)) is not None:
        drawn.add_row(*(Text(shown(constant.cells[column])) for column in shown_columns), style="dim")
    return drawn
