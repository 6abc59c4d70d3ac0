"""A server that writes down each request, and answers what it is told to: a stranger's."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Listening(ThreadingHTTPServer):
    """Listens on a free port of loopback.

    Attributes:
        requests: Each as method, path and the header of the password.
        answers: JSON by the end of a path; else 404.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[tuple[str, str, str]] = []
        self.answers: Mapping[str, object] = {}

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Listening

    def _answer(self) -> None:
        self.server.requests.append((self.command, self.path, self.headers.get("Authorization", "")))
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.partition("?")[0]
        found = next((answer for end, answer in self.server.answers.items() if path.endswith(end)), None)
        body = json.dumps(found if found is not None else {"error_code": "RESOURCE_DOES_NOT_EXIST"}).encode()
        self.send_response(200 if found is not None else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _answer  # noqa: N815 - the names of the base class

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def listening() -> Iterator[Listening]:
    with Listening() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
