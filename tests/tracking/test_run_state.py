"""State of a run by its journal alone, against a plain reading of every line."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from file_reads import file_reads

from reglab.config.job_request import JobRequest
from reglab.core.errors import UserError
from reglab.launchers.resumable_jobs import recorded_end
from reglab.tracking.run_state import RunState, last_status, read_state


def journal(folder: Path, *contents: object, tail: bytes = b"") -> Path:
    (folder / "run.json").write_text("{}")
    body = b"".join(c if isinstance(c, bytes) else json.dumps(c).replace(" ", "").encode() + b"\n" for c in contents)
    (folder / "journal.jsonl").write_bytes(body + tail)
    return folder


ROW = {"time": 1, "step": 1, "metrics": {"loss": 1.0}}


def event(status: str) -> dict[str, object]:
    return {"time": 1, "status": status}


@pytest.mark.parametrize(
    "contents, tail, expected",
    [
        ([], b"", "RUNNING"),
        ([ROW], b"", "RUNNING"),
        ([ROW, event("FINISHED")], b"", "FINISHED"),
        ([event("KILLED"), ROW, event("RUNNING"), ROW], b"", "RUNNING"),
        ([event("KILLED"), ROW, {"time": 1, "step": 2, "metrics": {"status": 1.0}}], b"", "KILLED"),
        ([event("FAILED"), {"time": 1, "tags": {"note": '"status":"FINISHED"'}}], b"", "FAILED"),
        ([event("FAILED")], b'{"time":1,"status":"FINIS', "FAILED"),  # torn by death
        # Zeros of a power loss.
        ([event("FAILED"), b'\0\0\0"status":"FINISHED"}\n'], b"", "FAILED"),
        ([event("FAILED"), b'["status":1]\n', b'"status":\n'], b"", "FAILED"),
    ],
)
def test_the_last_status_counts(tmp_path: Path, contents: list[object], tail: bytes, expected: str) -> None:
    assert last_status(journal(tmp_path, *contents, tail=tail)) == expected


def test_a_run_that_never_wrote_a_line_is_running(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    assert last_status(tmp_path) == "RUNNING"


def test_a_folder_without_a_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no run"):
        last_status(tmp_path)


def by_every_line(folder: Path, contents: list[dict[str, Any]]) -> RunState:
    """Return the state by the first line, then the second, and so on: the last one counts."""
    status, tags, results = "RUNNING", {}, {}
    for content in contents:
        status = content.get("status", status)
        tags |= content.get("tags", {})
        metrics = content.get("metrics", {})
        results |= {k.removeprefix("final/"): v for k, v in metrics.items() if k.split("/")[0] in ("final", "test")}
    return RunState(folder, status, tags, results if status == "FINISHED" else {})


@pytest.mark.parametrize("seed", range(20))
def test_the_state_is_that_of_a_plain_reading(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    kinds = [
        lambda n: {"time": n, "step": n, "metrics": {"loss": draw.random(), "weights/final/l2": 1.0}},
        lambda n: {"time": n, "step": n, "metrics": {"final/val/loss": draw.random(), "loss": 2.0}},
        lambda n: {"time": n, "step": n, "metrics": {"test/loss": draw.random()}},
        lambda n: {"time": n, "tags": {draw.choice("ab"): str(n), "note": '"status":"FINISHED"'}},
        lambda n: {"time": n, "tags": {"reglab.failure": "diverged", "reglab.message": "NaN"}},
        lambda n: {"time": n, "status": draw.choice(["RUNNING", "FINISHED", "FINISHED", "FAILED"])},
        lambda n: {"time": n, "artifact": "a", "folder": ""},
    ]
    contents = [draw.choice(kinds)(number) for number in range(draw.randrange(40))]
    folder = journal(tmp_path, *contents, tail=b'{"time":1,"status":"KIL')
    assert read_state(folder) == by_every_line(folder, contents)


def test_rows_of_metrics_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{**ROW, "step": number} for number in range(1000)]
    folder = journal(tmp_path, {"time": 1, "tags": {"a": "b"}}, *rows, event("KILLED"))
    decoded = []
    loads = json.loads
    monkeypatch.setattr(json, "loads", lambda text: (decoded.append(text), loads(text))[1])
    assert read_state(folder) == RunState(folder, "KILLED", {"a": "b"})
    assert len(decoded) == 2


def test_how_a_job_ended_takes_one_reading_of_its_journal(tmp_path: Path) -> None:
    folder = journal(tmp_path, {"time": 1, "step": 1, "metrics": {"final/val/loss": 2.0}}, event("FINISHED"))
    (folder / "run.json").write_text('{"run_id": "a", "name": "n", "uri": null, "artifacts": null}')
    with file_reads(folder) as opened:
        end = recorded_end(JobRequest(7, folder=folder))
    assert end is not None
    assert (end.job, end.status, end.run_id, end.metrics) == (7, "FINISHED", "a", {"val/loss": 2.0})
    assert opened["journal.jsonl"] == 1


def test_where_there_is_no_run_there_is_no_state(tmp_path: Path) -> None:
    assert read_state(tmp_path) is None
    (tmp_path / "run.json").write_text("{}")
    assert read_state(tmp_path) is None
    (tmp_path / "journal.jsonl").touch()
    assert read_state(tmp_path) == RunState(tmp_path)
