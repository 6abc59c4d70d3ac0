"""What the display knows and shows."""

import io
import math

import pytest
from rich.console import Console

from reglab.launchers.display import line, summary, table
from reglab.launchers.display_state import DisplayState, clock_text, figure, pack_label
from reglab.launchers.events import Ended, EpochEnded, Packed, Regrouped, Requeued, Started


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def board(clock):
    board = DisplayState({job: f"l1 seed={job}" for job in range(4)}, clock)
    for event in (
        Started(0),
        Started(1),
        EpochEnded(0, 5, 10, {"val/loss": 0.25}),
        Ended(1, "FINISHED", metrics={"final/val/loss": 0.5, "gap/loss": 0.125}),
        Started(2),
    ):
        board.on_event(event)
    return board


def test_time_left_is_extrapolated_from_what_is_done(board, clock):
    clock.now += 30  # for one job and a half
    assert board.left() == pytest.approx(30 / 1.5 * (4 - 1.5))
    assert math.isnan(DisplayState({0: "a"}, clock).left())


def test_events_move_jobs(board):
    assert [row.label for row in board.running.values()] == ["l1 seed=0", "l1 seed=2"]
    board.on_event(Ended(2, "FAILED", "diverged"))
    assert ([end.job for end in board.ends], board.count("FAILED"), list(board.running)) == ([1, 2], 1, [0])


def shown(board: DisplayState, width: int) -> str:
    console = Console(width=width, file=io.StringIO())
    console.print(table(board, width))
    return console.file.getvalue()


def test_the_table_shows_progress_and_results(board):
    text = shown(board, width=100)
    for part in ("1/4 jobs", "l1 seed=0", "5/10", "0.25", "starting", "finished", "0.125", "0.5"):
        assert part in text


def test_a_narrow_terminal_cuts_names_not_figures():
    board = DisplayState({0: "a label that is far too long for a narrow terminal, as those of cocktails are"}, Clock())
    board.on_event(EpochEnded(0, 100, 100, {"train/loss": 0.1234, "val/loss": 0.5678, "gap/loss": -0.4444}))
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


@pytest.fixture
def pack(clock):
    labels = [f"l1 strength={strength} seed=0" for strength in ("3e-05", "0.0003", "0.003")]
    board = DisplayState(dict(enumerate([*labels, "none seed=1"])), clock)
    for event in (*(Started(job) for job in range(3)), Packed((0, 1, 2)), Started(3)):
        board.on_event(event)
    return board


def test_a_pack_is_one_row(pack):
    pack.on_event(EpochEnded(0, 5, 10, {"val/loss": 0.25, "gap/loss": 0.5}))
    pack.on_event(EpochEnded(1, 4, 10, {"val/loss": 0.125, "gap/loss": 0.75}))
    pack.on_event(EpochEnded(2, 5, 10, {"val/loss": math.nan}))
    first, second = pack.rows()
    assert (first.label, second.label) == ("l1 seed=0 x 3: strength 3e-5 ... 0.003", "none seed=1")
    assert (first.epoch, first.epochs, first.metrics["gap/loss"]) == (4, 10, 0.75)
    text = shown(pack, width=100)
    for part in ("0/4 jobs", "l1 seed=0 x 3: strength", "4/10", "0.125", "lowest val loss"):
        assert part in text
    assert "l1 seed=0 x 3: strength 3e-5 ... 0.003: epoch 4/10 val loss 0.125" in line(pack)


def test_members_leave_their_pack_as_they_end(pack):
    pack.on_event(Ended(1, "FINISHED"))
    assert pack.rows()[0].label == "l1 seed=0 x 2: strength 3e-5 ... 0.003"
    pack.on_event(Ended(0, "KILLED"))
    assert [row.label for row in pack.rows()] == ["l1 strength=0.003 seed=0", "none seed=1"]
    pack.on_event(Ended(2, "KILLED"))
    assert [row.label for row in pack.rows()] == ["none seed=1"]


def test_jobs_that_come_apart_wait_again_and_the_reason_is_told_once(pack):
    pack.on_event(Regrouped(((0,), (1, 2)), "why"))
    assert [row.label for row in pack.rows()] == ["none seed=1"]
    assert pack.pending_lines() == ["3 jobs train in 1 pack and 1 alone: why"]
    assert pack.pending_lines() == []


def test_a_reason_waits_for_packs_that_are_only_starting_and_is_told_for_all(clock):
    board = DisplayState(dict.fromkeys(range(8), "l1"), clock)
    for jobs in ((0, 1, 2, 3), (4, 5, 6, 7)):
        for job in jobs:
            board.on_event(Started(job))
        board.on_event(Packed(jobs))
    board.on_event(Regrouped(((0,), (1,), (2,), (3,)), "why"))
    assert board.pending_lines() == []
    board.on_event(Regrouped(((4,), (5,), (6,), (7,)), "why"))
    assert board.pending_lines() == ["8 jobs train one by one: why"]


def test_jobs_that_come_apart_twice_count_once(pack):
    pack.on_event(Regrouped(((0,), (1, 2)), "why"))
    pack.on_event(Packed((1, 2)))
    pack.on_event(Started(1))
    pack.on_event(Regrouped(((1,), (2,)), "why"))
    assert pack.pending_lines(flush=True) == ["3 jobs train one by one: why"]


@pytest.mark.parametrize(
    "labels, expected",
    [
        (["l1 strength=0.1", "l1 strength=1e-05"], "l1 x 2: strength 1e-5 ... 0.1"),
        (["l1 strength=1 seed=0", "l1 strength=2 seed=5"], "l1 x 2: strength 1 ... 2, seed 0 ... 5"),
        (["a", "b"], "2 jobs"),
        (["l1 betas=[1,2]", "l1 betas=[1,3]"], "l1 x 2: betas [1,2], [1,3]"),
    ],
)
def test_the_label_of_a_pack(labels, expected):
    assert pack_label(labels) == expected


def test_jobs_that_lost_their_worker_wait_again_and_are_told_once():
    board = DisplayState({0: "a", 1: "b", 2: "c"}, Clock())
    for job in range(3):
        board.on_event(Started(job))
    board.on_event(Packed((0, 1)))
    board.on_event(Requeued((0, 1), "its worker died: 2 jobs resume"))
    assert list(board.running) == [2]
    assert board.packs == []
    assert board.pending_lines() == ["its worker died: 2 jobs resume"]
    assert board.pending_lines() == []


def test_what_a_job_does_instead_of_steps_is_shown_until_it_goes_on():
    board = DisplayState({0: "l1 seed=0"}, lambda: 0.0)
    board.on_event(Started(0))
    assert board.rows()[0].progress == "starting"
    board.on_event(EpochEnded(0, 2, 60, {}, "compiling"))
    assert board.rows()[0].progress == "compiling"
    board.on_event(EpochEnded(0, 3, 60, {}))
    assert board.rows()[0].progress == "3/60"
