"""One live table for a whole sweep, or a plain line every few seconds where there is no terminal."""

import time
from collections.abc import Mapping

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from reglab.launchers.display_state import Board, Row, clock_text, figure
from reglab.launchers.events import Ended, Event

_COLUMNS = {"train/loss": "train loss", "val/loss": "val loss", "gap/loss": "gap"}
_COLOURS = {"FINISHED": "green", "FAILED": "red", "KILLED": "yellow"}
_SECONDS_BETWEEN_LINES = 5.0
_WIDEST = 110  # of the table: on a wide terminal a row should still be read as one


class Display:
    """Shows the jobs with these labels while inside its context; hand it events and ticks."""

    def __init__(self, labels: Mapping[int, str], console: Console | None = None):
        self._console = console or Console(stderr=True)
        self._board = Board(labels, time.monotonic)
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
        self._print_regrouped(at_once=True)
        if self._board.total > 1:
            self._console.print(summary(self._board), highlight=False)

    def tell(self, event: Event) -> None:
        """Take in an event; a failure is printed at once, why jobs train apart a little later, and both stay."""
        self._board.tell(event)
        if isinstance(event, Ended) and event.status == "FAILED" and self._board.total > 1:
            label = self._board.labels[event.job]
            self._console.print(f"job {event.job} ({label}) failed: {event.message}", style="red", markup=False)

    def tick(self) -> None:
        """Print what is due: a line if there is no terminal and the last one is some seconds old."""
        self._print_regrouped()
        now = time.monotonic()
        if self._live is None and now - self._printed >= _SECONDS_BETWEEN_LINES:
            self._printed = now
            self._console.print(line(self._board), markup=False, highlight=False, soft_wrap=True)

    def _print_regrouped(self, at_once: bool = False) -> None:
        for text in self._board.regrouped(at_once):
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _table(self) -> Group:
        return table(self._board, self._console.width)


def table(board: Board, width: int) -> Group:
    """Return the live table: the overall bar, a row for each running job or pack, and the last jobs that ended.

    A pack's figures are those of its member with the lowest val/loss. width: of the terminal. Where it is narrow, names
    are cut, figures are not.
    """
    head = Table.grid(padding=(0, 1))
    head.add_row(
        Text(f"{len(board.ends)}/{board.total} jobs", style="bold"),
        ProgressBar(
            total=board.total, completed=len(board.ends) + sum(row.done for row in board.running.values()), width=40
        ),
        Text(f"{clock_text(board.elapsed())} elapsed, {clock_text(board.left())} left", style="dim"),
        Text(f"{board.count('FAILED')} failed" if board.count("FAILED") else "", style="red"),
    )
    body = Table(width=min(width, _WIDEST), box=None, padding=(0, 2, 0, 0), header_style="dim")
    body.add_column("job", no_wrap=True, overflow="ellipsis", ratio=1)
    for name in ("epoch", *_COLUMNS.values()):
        body.add_column(name, justify="right", no_wrap=True, min_width=8)
    for end in board.latest:
        epoch = Text(end.status.lower(), style=_COLOURS[end.status])
        body.add_row(Text(board.labels[end.job], style="dim"), epoch, *(figure(end.metrics, key) for key in _COLUMNS))
    for row in board.rows():
        body.add_row(Text(row.label), Text(row.place), *(figure(row.metrics, key) for key in _COLUMNS))
    note = [Text("of a pack (x n): the member with the lowest val loss", style="dim")] if board.packs else []
    return Group(head, body, *note)


def line(board: Board) -> str:
    """Return the state in one line."""
    running = "; ".join(_progress(row) for row in board.rows())
    left = f"{clock_text(board.left())} left"
    if board.total == 1:
        return f"{running}, {left}"
    failed = f", {board.count('FAILED')} failed" if board.count("FAILED") else ""
    return f"{len(board.ends)}/{board.total} jobs{failed}, {left} | {running}"


def _progress(row: Row) -> str:
    epoch = f"epoch {row.place}" if row.epochs and not row.doing else row.place
    figures = [f"{name} {text}" for key, name in _COLUMNS.items() if (text := figure(row.metrics, key))]
    return " ".join([f"{row.label}:", epoch, *figures])


def summary(board: Board) -> str:
    """Return how all ended, in one line."""
    parts = [f"{board.count(status)} {status.lower()}" for status in _COLOURS if board.count(status)]
    unstarted = board.total - len(board.ends)
    parts += [f"{unstarted} not started"] if unstarted else []
    return f"{board.total} jobs in {clock_text(board.elapsed())}: {', '.join(parts) or 'none ended'}"
