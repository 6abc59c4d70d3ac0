"""The end of a run by its journal alone, against a plain reading of every line."""

import json
from pathlib import Path

import pytest

from reglab.core.errors import UserError
from reglab.tracking.status import last_status


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
