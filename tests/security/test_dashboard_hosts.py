"""The dashboard answers to its own names alone: by a name that leads here, a stranger's page reads nothing."""

import http.client
import json
import shutil
from pathlib import Path

from tracking.admin.dashboard_process import dashboard

STRANGERS = ("10.evil.com", "192.168.evil.com", "172.16.evil.com", "fc00:evil.com", "evil.com", "0.0.0.0", "")


def test_a_stranger_reads_and_writes_nothing(template: Path, tmp_path: Path) -> None:
    shutil.copy(template, tmp_path / "reglab.db")
    with dashboard(tmp_path) as address:
        place = address.removeprefix("http://")
        port = place.partition(":")[2]

        def ask(host: str, origin: str = "") -> http.client.HTTPResponse:
            connection = http.client.HTTPConnection(place, timeout=60)
            connection.putrequest("POST", "/ajax-api/2.0/mlflow/experiments/search", skip_host=True)
            body = json.dumps({"max_results": 1}).encode()
            named = {"Host": host, "Content-Type": "application/json", "Content-Length": str(len(body))}
            for name, value in (named | ({"Origin": origin} if origin else {})).items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            answer.read()
            connection.close()
            return answer

        for own in ("localhost", "127.0.0.1", "[::1]"):
            answer = ask(f"{own}:{port}", f"http://{own}:{port}")
            assert answer.status == 200, own
            assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"
        for host in STRANGERS:
            for given in (host, f"{host}:{port}", f"{host}:{port}#.localhost"):
                assert ask(given).status in (400, 403), given
        answer = ask(f"127.0.0.1:{port}", "http://10.evil.com")
        assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (403, None)
