"""Live progress table of a sweep, or a line every few seconds without a terminal."""

import sys
import time
from collections.abc import Mapping

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from reglab.core.output import dropping
from reglab.core.terminal import shown
from reglab.launchers.display_state import DisplayState, ProgressRow, clock_text, figure
from reglab.launchers.events import Ended, Event

_COLUMNS = {"train/loss": "train loss", "val/loss": "val loss", "gap/loss": "gap"}
_COLOURS = {"FINISHED": "green", "FAILED": "red", "KILLED": "yellow"}
_SECONDS_BETWEEN_LINES = 5.0
_WIDEST = 110  # columns of the table, for rows to stay readable on a wide terminal


class Display:
    """Shows the progress of jobs inside its context.

    Args:
        labels: Of the jobs, by number.
        console: Where it is shown; standard error by default.
    """

    def __init__(self, labels: Mapping[int, str], console: Console | None = None):
        self._console = console or Console(file=dropping(sys.stderr))
        self._state = DisplayState(labels, time.monotonic)
        self._live: Live | None = None
        self._printed = time.monotonic()

    def __enter__(self) -> "Display":
        if self._console.is_terminal:
            self._live = Live(console=self._console, get_renderable=self._table, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()
        self._print_pending(flush=True)
        if self._state.total > 1:
            self._console.print(summary(self._state), highlight=False)

    def on_event(self, event: Event) -> None:
        """Take in an event; print a failure at once, and lines about regrouped jobs later."""
        self._state.on_event(event)
        if isinstance(event, Ended) and event.status == "FAILED" and self._state.total > 1:
            label = self._state.labels[event.job]
            self._console.print(f"job {event.job} ({label}) failed: {event.message}", style="red", markup=False)

    def on_tick(self) -> None:
        """Print due lines: without a terminal, a progress line every few seconds."""
        self._print_pending()
        now = time.monotonic()
        if self._live is None and now - self._printed >= _SECONDS_BETWEEN_LINES:
            self._printed = now
            self._console.print(line(self._state), markup=False, highlight=False, soft_wrap=True)

    def _print_pending(self, flush: bool = False) -> None:
        for text in self._state.pending_lines(flush):
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _table(self) -> Group:
        return table(self._state, self._console.width)


def table(state: DisplayState, width: int) -> Group:
    """Return the live table: overall bar, running jobs and packs, and the jobs that ended last.

    A pack's figures are those of its member with the lowest val/loss.

    Args:
        state: What is shown.
        width: Of the terminal, in columns. Where it is narrow, names are cut, figures are not.
    """
    header = Table.grid(padding=(0, 1))
    header.add_row(
        Text(f"{len(state.ends)}/{state.total} jobs", style="bold"),
        ProgressBar(
            total=state.total, completed=len(state.ends) + sum(row.fraction for row in state.running.values()), width=40
        ),
        Text(f"{clock_text(state.elapsed())} elapsed, {clock_text(state.left())} left", style="dim"),
        Text(f"{state.count('FAILED')} failed" if state.count("FAILED") else "", style="red"),
    )
    jobs_table = Table(width=min(width, _WIDEST), box=None, padding=(0, 2, 0, 0), header_style="dim")
    jobs_table.add_column("job", no_wrap=True, overflow="ellipsis", ratio=1)
    for name in ("epoch", *_COLUMNS.values()):
        jobs_table.add_column(name, justify="right", no_wrap=True, min_width=8)
    for end in state.latest:
        epoch = Text(end.status.lower(), style=_COLOURS[end.status])
        jobs_table.add_row(
            Text(shown(state.labels[end.job], sys.stderr), style="dim"),
            epoch,
            *(figure(end.metrics, key) for key in _COLUMNS),
        )
    for row in state.rows():
        jobs_table.add_row(
            Text(shown(row.label, sys.stderr)), Text(row.progress), *(figure(row.metrics, key) for key in _COLUMNS)
        )
    footnote = [Text("a pack (x n) shows its member with the lowest val loss", style="dim")] if state.packs else []
    return Group(header, jobs_table, *footnote)


def line(state: DisplayState) -> str:
    """Return the progress in one line."""
    running = "; ".join(_progress(row) for row in state.rows())
    left = f"{clock_text(state.left())} left"
    if state.total == 1:
        return f"{running}, {left}"
    failed = f", {state.count('FAILED')} failed" if state.count("FAILED") else ""
    return f"{len(state.ends)}/{state.total} jobs{failed}, {left} | {running}"


def _progress(row: ProgressRow) -> str:
    epoch = f"epoch {row.progress}" if row.epochs and not row.doing else row.progress
    figures = [f"{name} {text}" for key, name in _COLUMNS.items() if (text := figure(row.metrics, key))]
    return " ".join([f"{row.label}:", epoch, *figures])


def summary(state: DisplayState) -> str:
    """Return how many jobs ended in which way, in one line."""
    parts = [f"{state.count(status)} {status.lower()}" for status in _COLOURS if state.count(status)]
    unstarted = state.total - len(state.ends)
    parts += [f"{unstarted} not started"] if unstarted else []
    return f"{state.total} jobs in {clock_text(state.elapsed())}: {', '.join(parts) or 'none ended'}"
