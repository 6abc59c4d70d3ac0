"""A server that trickles, hangs or asks for an hour is waited for a limited time."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from reglab.core.errors import UserError
from reglab.tracking import TrackingSettings
from reglab.tracking.mlflow.limited import call_seconds, within
from reglab.tracking.mlflow.store import connect, experiment

Answer = Callable[[socket.socket], None]
FOUND = (
    b'{"experiment": {"experiment_id": "7", "name": "study", "artifact_location": "mlflow-artifacts:/7", '
    b'"lifecycle_stage": "active"}}'
)


class Listener:
    """A server on loopback whose connections are answered by one function after the other, the last for good."""

    def __init__(self) -> None:
        self.ended, self.requests = threading.Event(), 0
        self.answers: list[Answer] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.uri = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection = self._socket.accept()[0]
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            connection.recv(65_536)
            self.requests += 1
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            answer(connection)

    def trickle(self, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not self.ended.wait(0.05):
            connection.sendall(b"x")

    def hang(self, connection: socket.socket) -> None:
        self.ended.wait()

    def close(self) -> None:
        self.ended.set()
        self._socket.close()


def later(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 503 Busy\r\nRetry-After: 3600\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def found(connection: socket.socket) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(FOUND)}\r\n"
    connection.sendall(f"{head}Connection: close\r\n\r\n".encode() + FOUND)


@pytest.fixture
def server() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.close()


@pytest.mark.parametrize("fault", ["trickle", "hang"])
def test_a_server_that_does_not_come_to_an_end_is_given_up(
    fault: str, server: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    server.answers = [getattr(server, fault)]
    settings = TrackingSettings("mlflow", server.uri, "study", None)
    with pytest.raises(UserError, match=r"cannot reach .*does not answer"):
        experiment(connect(server.uri), settings)
    assert server.requests == 1


def test_retry_after_is_no_order(server: Listener) -> None:
    server.answers = [later, found]
    made = experiment(connect(server.uri), TrackingSettings("mlflow", server.uri, "study", None))
    assert (made.experiment_id, server.requests) == ("7", 2)


def test_the_limit_follows_from_mlflows_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    assert call_seconds() == 240.0


def test_the_terminal_is_told_what_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("reglab.tracking.mlflow.limited._QUIET_SECONDS", 0.01)
    done = threading.Event()
    with pytest.raises(TimeoutError, match="within 0 s"):
        within(0.05, "http://me:secret@lab:5000", done.wait)
    done.set()
    assert capsys.readouterr().err == "waiting for http://lab:5000, 0 s at most; Ctrl-C ends it\n"


def test_what_the_call_raises_is_raised() -> None:
    with pytest.raises(KeyError, match="gone"):
        within(60, "http://lab", lambda: {}["gone"])
