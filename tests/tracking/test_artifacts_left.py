"""An artifact that a store does not take holds up neither rows nor status, and can be sent again."""

import logging
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import requests
from mlflow.exceptions import MlflowException

from reglab.cli.sync_clean import sync as command
from reglab.tracking import RunTracker
from reglab.tracking.admin.sync import is_sent, sync
from reglab.tracking.artifacts_left import read_left
from reglab.tracking.folder import LEFT, Identity
from reglab.tracking.mlflow.sink import MlflowSink
from reglab.tracking.sender import JournalCursor, Sender

Start = Callable[..., RunTracker]


def answered(code: HTTPStatus) -> requests.HTTPError:
    response = requests.Response()
    response.status_code, response.reason = code, code.phrase
    return requests.HTTPError(f"{code.value} Client Error: {code.phrase} for url: http://lab/x", response=response)


class Server:
    """MLflow's client of a server whose proxy refuses artifacts of these names."""

    def __init__(self, refuses: dict[str, Exception]) -> None:
        self.refuses, self.calls, self.artifacts, self.asked = refuses, list[str](), list[str](), list[str]()
        self.metrics: dict[str, float] = {}
        self.status = "RUNNING"

    def log_batch(self, run_id: str, metrics: Any = (), tags: Any = ()) -> None:
        self.metrics |= {metric.key: metric.value for metric in metrics}

    def set_terminated(self, run_id: str, status: str, time: int) -> None:
        self.status = status

    def log_artifact(self, run_id: str, path: str, folder: str | None) -> None:
        name = Path(path).name
        self.asked.append(name)
        if name in self.refuses:
            raise self.refuses[name]
        self.artifacts.append(name)


def tracked(server: Server, folder: Path, *names: str) -> tuple[RunTracker, Sender]:
    client: Any = server
    sender = Sender(MlflowSink(client, "http://lab"), seconds=1_000)
    run = RunTracker(Identity("a" * 32, "run", None, None), folder, sender)
    run.log({"loss": 0.5}, 1)
    for name in names:
        (folder / name).write_text(name)
        run.artifact(folder / name)
    return run, sender


@pytest.mark.parametrize("code", [HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND])
def test_rows_status_and_other_artifacts_pass_a_refused_one(
    code: HTTPStatus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server({"large.bin": answered(code)})
    with caplog.at_level(logging.WARNING):
        tracked(server, tmp_path, "large.bin", "small.txt")[0].finish()
    assert (server.status, server.metrics, server.artifacts) == ("FINISHED", {"loss": 0.5}, ["small.txt"])
    assert [artifact for artifact, _ in read_left(tmp_path)] == ["large.bin"]
    (told,) = [record.getMessage() for record in caplog.records]
    assert all(part in told for part in ("large.bin", str(tmp_path), "reglab sync"))


@pytest.mark.parametrize(
    "broken",
    [requests.ConnectionError("Connection reset"), MlflowException("HTTP 504"), OSError("gone")],
)
def test_where_nothing_answers_the_other_artifacts_are_not_tried(broken: Exception, tmp_path: Path) -> None:
    server = Server({"first.bin": broken})
    run, _ = tracked(server, tmp_path, "first.bin", "second.bin")
    assert not run.flush()
    assert (server.asked, len(read_left(tmp_path))) == (["first.bin"], 2)
    server.refuses.clear()
    assert run.flush()
    assert (server.artifacts, read_left(tmp_path)) == (["first.bin", "second.bin"], {})
    run.finish()


def test_an_artifact_store_without_its_library_costs_its_artifacts_alone(tmp_path: Path) -> None:
    server = Server({"a.bin": ImportError("No module named 'boto3'")})
    tracked(server, tmp_path, "a.bin")[0].finish()
    assert server.status == "FINISHED"
    assert "boto3" in next(iter(read_left(tmp_path).values()))


def test_a_later_process_remembers_what_was_left(tmp_path: Path) -> None:
    server = Server({"a.bin": answered(HTTPStatus.FORBIDDEN)})
    tracked(server, tmp_path, "a.bin")[0].finish()
    cursor = JournalCursor(Identity("a" * 32, "run", None, None), tmp_path)
    assert cursor.read(1_000) is None
    assert list(cursor.left) == [("a.bin", "")]


def test_sync_tells_what_is_left_and_tries_it_again(
    start: Start, client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = start()
    (run.folder / "a.bin").write_text("a")
    run.artifact(run.folder / "a.bin")
    artifacts = Path(client.get_run(run.run_id).info.artifact_uri.removeprefix("file://"))
    artifacts.mkdir(parents=True)
    (artifacts / "a.bin").mkdir()  # nothing can be moved there, whoever one is
    (artifacts / "a.bin" / "x").touch()
    run.log({"loss": 1.0}, 1)
    run.finish()
    record = client.get_run(run.run_id)
    assert (record.info.status, record.data.metrics) == ("FINISHED", {"loss": 1.0})
    assert not is_sent(run.folder)
    monkeypatch.chdir(tmp_path)
    assert command([]) == 1
    said = capsys.readouterr().out
    assert f"{run.folder}: " in said
    assert "the artifact a.bin is left" in said
    assert "1 artifact left" in said.splitlines()[-1]
    (artifacts / "a.bin" / "x").unlink()
    (artifacts / "a.bin").rmdir()
    assert sync([run.folder], say=lambda text: None).complete
    assert (artifacts / "a.bin").read_text() == "a"
    assert is_sent(run.folder)
    assert not (run.folder / LEFT).exists()
