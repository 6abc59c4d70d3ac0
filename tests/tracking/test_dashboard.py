import os
import socket
import sys

import pytest

from reglab.errors import UserError
from reglab.tracking import dashboard, open_run


@pytest.fixture
def uri(tmp_path):
    (tmp_path / "reglab.db").write_bytes(b"SQLite format 3\0")
    return f"sqlite:///{tmp_path}/reglab.db"


@pytest.fixture
def taken():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_taken_port_is_passed_over(taken):
    assert taken < dashboard.free_port("127.0.0.1", taken) <= taken + 49


def test_no_free_port_is_an_error(taken, monkeypatch):
    monkeypatch.setattr(dashboard, "_TRIES", 1)
    with pytest.raises(UserError, match=f"no free port on 127.0.0.1 from {taken}"):
        dashboard.free_port("127.0.0.1", taken)


def test_the_process_becomes_the_server_on_loopback_and_says_where(uri, taken, monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(os, "execve", lambda *call: calls.append(call))
    dashboard.serve(uri, port=taken)
    ((program, command, environment),) = calls
    assert program == sys.executable
    assert command[:4] == [sys.executable, "-m", "mlflow", "server"]
    given = dict(zip(command[4::2], command[5::2], strict=True))
    assert (given["--backend-store-uri"], given["--host"]) == (uri, "127.0.0.1")
    assert int(given["--port"]) > taken
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert f"http://127.0.0.1:{given['--port']}" in capsys.readouterr().out


def test_nothing_to_show_yet(tmp_path):
    with pytest.raises(UserError, match="Run something first"):
        dashboard.serve(f"sqlite:///{tmp_path}/reglab.db")


def test_a_server_has_a_dashboard_of_its_own():
    with pytest.raises(UserError, match="on the server http://server:5000: open that address"):
        dashboard.serve("http://me:secret@server:5000")


def test_the_address_leads_to_the_runs(settings, tmp_path):
    assert dashboard.latest_page(settings.uri) == ""
    tracker = open_run(settings, name="job", folder=tmp_path / "run", config={}, params={}, tags={})
    tracker.finish()
    page = dashboard.latest_page(settings.uri)
    assert page == f"#/experiments/{get_run_experiment(settings.uri, tracker.run_id)}?workflowType=machine_learning"


def get_run_experiment(uri, run_id):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri).get_run(run_id).info.experiment_id
