"""Whether a run still counts as running: what a sweep asks of the jobs that did not finish."""

from dataclasses import replace
from pathlib import Path

import pytest

from reglab.errors import UserError
from reglab.tracking import TrackingSettings, is_open, last_status, open_run, reopen_run


@pytest.mark.parametrize("backend", ["none", "mlflow", "offline"])
def test_a_run_is_open_until_its_end_is_recorded(backend: str, settings: TrackingSettings, tmp_path: Path) -> None:
    settings = replace(settings, backend=backend)
    folder = tmp_path / "run"
    tracker = open_run(settings, name="job", folder=folder, config={}, params={}, tags={})
    tracker.journal.close()
    del tracker  # the worker is gone, and recorded no end
    assert is_open(folder)
    assert last_status(folder) == "RUNNING"
    reopen_run(folder).finish("KILLED")
    assert not is_open(folder)
    assert last_status(folder) == "KILLED"


def test_a_folder_without_a_run_is_told(tmp_path: Path) -> None:
    for ask in (is_open, last_status):
        with pytest.raises(UserError, match="holds no run"):
            ask(tmp_path)
