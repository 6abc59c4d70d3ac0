"""Whether a run still counts as running: what a sweep asks of the jobs that did not finish."""

from pathlib import Path

import pytest

from reglab.errors import UserError
from reglab.tracking import TrackingSettings, is_open, open_run, reopen_run


@pytest.mark.parametrize("backend", ["none", "mlflow"])
def test_a_run_is_open_until_its_end_is_recorded(backend: str, settings: TrackingSettings, tmp_path: Path) -> None:
    if backend == "none":
        settings = TrackingSettings("none", "", "study", None)
    folder = tmp_path / "run"
    tracker = open_run(settings, name="job", folder=folder, config={}, params={}, tags={})
    tracker.journal.close()  # the worker is gone, and recorded no end
    assert is_open(folder)
    reopen_run(folder).finish("KILLED")
    assert not is_open(folder)


def test_a_folder_without_a_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no run"):
        is_open(tmp_path)
