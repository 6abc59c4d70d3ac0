"""What the display knows and shows."""

import io
import math

import pytest
from rich.console import Console

from reglab.sweeps.board import Board, clock_text, figure
from reglab.sweeps.display import line, summary, table
from reglab.sweeps.events import Advanced, Ended, Started


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def board(clock):
    board = Board({job: f"l1 seed={job}" for job in range(4)}, clock)
    for event in (
        Started(0),
        Started(1),
        Advanced(0, 5, 10, {"val/loss": 0.25}),
        Ended(1, "FINISHED", metrics={"final/val/loss": 0.5, "gap/loss": 0.125}),
        Started(2),
    ):
        board.tell(event)
    return board


def test_time_left_is_extrapolated_from_what_is_done(board, clock):
    clock.now += 30  # for one job and a half
    assert board.left() == pytest.approx(30 / 1.5 * (4 - 1.5))
    assert math.isnan(Board({0: "a"}, clock).left())


def test_events_move_jobs(board):
    assert [row.label for row in board.running.values()] == ["l1 seed=0", "l1 seed=2"]
    board.tell(Ended(2, "FAILED", "diverged"))
    assert ([end.job for end in board.ends], board.count("FAILED"), list(board.running)) == ([1, 2], 1, [0])


def shown(board: Board, width: int) -> str:
    console = Console(width=width, file=io.StringIO())
    console.print(table(board, width))
    return console.file.getvalue()


def test_the_table_shows_progress_and_results(board):
    text = shown(board, width=100)
    for part in ("1/4 jobs", "l1 seed=0", "5/10", "0.25", "starting", "finished", "0.125", "0.5"):
        assert part in text


def test_a_narrow_terminal_cuts_names_not_figures():
    board = Board({0: "a label that is far too long for a narrow terminal, as those of cocktails are"}, Clock())
    board.tell(Advanced(0, 100, 100, {"train/loss": 0.1234, "val/loss": 0.5678, "gap/loss": -0.4444}))
    text = shown(board, width=80)
    for part in ("100/100", "0.1234", "0.5678", "-0.4444", "a label that"):
        assert part in text


def test_the_line_and_the_summary(board, clock):
    clock.now += 30
    assert line(board) == "1/4 jobs, 0:50 left | l1 seed=0: epoch 5/10 val loss 0.25; l1 seed=2: starting"
    assert summary(board) == "4 jobs in 0:30: 1 finished, 3 not started"


@pytest.mark.parametrize("seconds, text", [(5, "0:05"), (65.4, "1:05"), (3605, "1:00:05"), (math.nan, "-:--")])
def test_clock_text(seconds, text):
    assert clock_text(seconds) == text


def test_a_missing_figure_is_empty():
    assert figure({}, "val/loss") == ""
