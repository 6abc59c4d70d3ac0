"""Ctrl-C in the middle of a sweep."""

import os
import signal
from pathlib import Path

import pytest

from reglab.launchers import local
from reglab.launchers.display import Display
from reglab.launchers.events import EpochEnded
from reglab.launchers.job_returns import Interrupted


class Impatient(Display):
    """Presses Ctrl-C when a job has told of its first epoch."""

    def on_event(self, event):
        super().on_event(event)
        if isinstance(event, EpochEnded):
            os.kill(os.getpid(), signal.SIGINT)


def test_running_jobs_end_in_order_and_the_rest_are_not_started(multirun, monkeypatch, capsys):
    monkeypatch.setattr(local, "Display", Impatient)
    with pytest.raises(Interrupted) as interrupt:
        multirun("act=wait", "seed=range(0,5)", f"folder={Path.cwd()}", workers=1)
    assert [(job, end.status) for job, end in interrupt.value.ends.items()] == [(0, "KILLED")]
    assert not list(Path("out").glob("[1-9]*"))
    assert "1 killed, 4 not started" in capsys.readouterr().err
    assert "KILLED" in Path("out/journal.jsonl").read_text()
