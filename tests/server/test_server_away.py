"""The short form of scripts/chaos/server_away.py: its contents decide.

Its timings are for people to read.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import requests
from scripts.chaos.mlflow_server import MlflowServer

from reglab.core.errors import UserError
from reglab.sweeps.ledger import send_unsent
from reglab.tracking import RunSpec, RunTracker, TrackingSettings, finish_runs, open_runs, open_sweep, store_gate
from reglab.tracking.mlflow.create import RunCreator
from reglab.tracking.mlflow.read import history, sweep_runs
from reglab.tracking.opening import StoredRun
from reglab.tracking.run_start import Start

ROOT = Path(__file__).resolve().parents[2]


def test_a_server_that_flaps_has_every_row_once():
    command = [sys.executable, "scripts/chaos/server_away.py", "--seconds", "4", "--flaps", "2", "--up", "1"]
    command += ["--length", "0"]
    # MLflow waits between its own tries; a test has no time for that, and the journal sends again
    # anyway.
    quick = os.environ | {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    done = subprocess.run(command, cwd=ROOT, env=quick, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout)
    print(figures)
    assert figures["wrong"] == ""
    assert figures["steps"]["away"] > 0
    assert done.stderr.count("Training continues") >= 1


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowServer]:
    """A server over SQLite, without users; a call to it fails at once while it is away."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    made = MlflowServer(tmp_path, f"sqlite:///{tmp_path / 'store.db'}")
    made.start()
    yield made
    made.kill()


def begin(settings: TrackingSettings, sweep: RunTracker, first: int) -> list[RunTracker]:
    """Open two jobs, record a row of each, and end them."""
    numbers = range(first, first + 2)
    specs = [
        RunSpec(f"job {n}", sweep.folder / str(n), {}, {"number": n}, {}, parent=sweep.run_id, steps=1) for n in numbers
    ]
    runs = open_runs(settings, specs)
    for number, run in zip(numbers, runs, strict=True):
        run.log({"loss": number + 0.5}, 1)
    finish_runs(runs, ["FINISHED", "FAILED"])
    return runs


def test_jobs_of_a_sweep_begin_while_its_server_is_away(
    plain: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = TrackingSettings("mlflow", plain.uri, "study", None)
    store_gate.name_store(plain.uri)
    sweep = open_sweep(settings, name="sweep", folder=tmp_path / "runs", params={}, tags={})
    begin(settings, sweep, 0)
    plain.kill()
    with pytest.raises(UserError, match="cannot reach"):  # it may be the wrong address
        open_sweep(settings, name="another", folder=tmp_path / "another", params={}, tags={})
    begin(settings, sweep, 2)
    assert not send_unsent(sweep.folder, plain.uri)
    assert "nothing is lost" in capsys.readouterr().err
    plain.start()
    # The sweep's configuration names the server, no folder alone.
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2-hunter2")
    whole = RunCreator.create

    def half(self: RunCreator, starts: Sequence[Start]) -> list[StoredRun]:
        whole(self, starts[:1])
        raise requests.ConnectionError("gone while it made the second")

    with monkeypatch.context() as patch:
        patch.setattr(RunCreator, "create", half)
        begin(settings, sweep, 4)
    for _ in range(2):
        assert send_unsent(sweep.folder, plain.uri)
        found = sorted(sweep_runs(plain.uri, sweep.run_id), key=lambda run: run.name)
        assert [run.name for run in found] == [f"job {number}" for number in range(6)]
        for number, run in enumerate(found):
            assert (run.status, run.params["number"]) == (["FINISHED", "FAILED"][number % 2], str(number))
            assert history(plain.uri, run.run_id, ["loss"]) == {"loss": [(1, number + 0.5)]}
    assert capsys.readouterr().err == ""
    sweep.finish()
