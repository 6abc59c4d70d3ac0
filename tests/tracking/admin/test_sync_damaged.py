"""Damaged folders: one run's fault costs one run, and is told in one sentence that names the folder."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from reglab.core.errors import UserError
from reglab.sweeps.ledger import send_unsent
from reglab.tracking import RunTracker, TrackingSettings, reopen_run
from reglab.tracking.admin.sync import sync
from reglab.tracking.folder import read_identity

Start = Callable[..., RunTracker]


def leave(run: RunTracker) -> Path:
    """End a run's process without sending anything."""
    run.log({"loss": 1.0}, 1)
    run.journal.close()
    assert run._lock is not None
    run._lock.release()
    (run.folder / "journal.sent").unlink(missing_ok=True)
    return run.folder


def identity(**changed: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = {**asdict(read_identity(folder)), **changed}
        (folder / "run.json").write_text(json.dumps(content))

    return damage


def append(folder: Path, line: str) -> None:
    with (folder / "journal.jsonl").open("a") as file:
        file.write(f"{line}\n")


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "no JSON": lambda folder: (folder / "run.json").write_text("{"),
    "a list": lambda folder: (folder / "run.json").write_text("[1]"),
    "deep": lambda folder: (folder / "run.json").write_text("[" * 100_000),
    "no UTF-8": lambda folder: (folder / "run.json").write_bytes(b"\xff\xfe"),
    "id": identity(run_id=5),
    "name": identity(name=None),
    "uri": identity(uri=["sqlite://"]),
    "stride": identity(stride=0),
    "steps": identity(steps="many"),
    "start": lambda folder: (folder / "start.json").write_text('{"time": "x"}'),
    "journal": lambda folder: (
        (folder / "journal.jsonl").unlink(),
        (folder / "journal.jsonl").mkdir(),
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_run_does_not_hold_up_the_others(damage: str, start: Start, client: Any, tmp_path: Path) -> None:
    bad, good = leave(start("bad")), start("good")
    leave(good)
    DAMAGE[damage](bad)
    said: list[str] = []
    result = sync([tmp_path / "runs"], say=said.append)
    assert client.get_run(good.run_id).info.status == "KILLED"
    assert [metric.value for metric in client.get_metric_history(good.run_id, "loss")] == [1.0]
    assert [*result.refused] == [bad]
    assert [line for line in said if str(bad) in line and "refused: " in line]


@pytest.mark.parametrize(
    "line",
    [
        json.dumps({"time": 1, "tags": {"reglab.message": "name \udcff\0"}}),  # of a version that wrote them so
        json.dumps({"time": 1, "tags": {"a\udcff": "b"}}),
        json.dumps({"time": 1, "step": 2, "metrics": {"a\udcff": 1.0}}),
        '{"time":1,"tags":' + "[" * 50_000,
        '{"time":1,"step":' + "9" * 40 + ',"metrics":{"a":1.0}}',
        '{"time":1,"step":1,"metrics":{"a":' + "9" * 400 + "}}",
        '{"time":1,"status":"WEIRD"}',
        json.dumps({"time": 1, "artifact": "a\0b", "folder": ""}),
    ],
)
def test_lines_that_no_store_takes_hold_up_nothing(line: str, start: Start, client: Any, tmp_path: Path) -> None:
    run = start()
    append(leave(run), line)
    result = sync([run.folder], say=lambda text: None)
    assert result.complete
    assert client.get_run(run.run_id).info.status == "KILLED"
    assert client.get_run(run.run_id).data.tags["reglab.message"] == "its process was gone"


def test_a_run_says_what_no_store_takes_in_escapes(start: Start, client: Any) -> None:
    run = start("na\udcffme", params={"path": "/data/\udcff\0"}, tags={"own": "\ud800"})
    run.tag(**{"reglab.message": "bad \udcff\0"})
    run.finish("FAILED")
    stored = client.get_run(run.run_id)
    assert (stored.info.status, stored.info.run_name) == ("FAILED", r"na\udcffme")
    assert stored.data.tags["reglab.message"] == r"bad \udcff\x00"
    assert stored.data.params["path"] == r"/data/\udcff\x00"
    assert stored.data.tags["own"] == r"\ud800"


def test_what_a_sink_did_not_foresee_costs_one_run(
    start: Start, client: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In the background thread, too: it lives on and sends the rest."""
    from reglab.tracking.mlflow.sql_sink import DirectSink

    run, send = start(), DirectSink.send
    failures = [UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed")]

    def sometimes(self: DirectSink, payloads: Any) -> None:
        if failures:
            raise failures.pop()
        send(self, payloads)

    monkeypatch.setattr(DirectSink, "send", sometimes)
    run.log({"loss": 1.0}, 1)
    assert not run.flush()
    assert f"the run in {run.folder} cannot be sent (UnicodeEncodeError" in caplog.text
    run.finish()
    assert client.get_run(run.run_id).info.status == "FINISHED"


def test_a_sweep_with_a_damaged_run_can_be_finished(
    start: Start, settings: TrackingSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If the store has the run it counts; if not, the job runs again: the folder is told and left."""
    bad, good = start("bad"), start("good")
    for run in (bad, good):
        run.finish()
    (bad.folder / "run.json").write_text("{")
    assert send_unsent(tmp_path / "runs", settings.uri)
    assert f"left as it is: {bad.folder / 'run.json'} cannot be read" in capsys.readouterr().err
    with pytest.raises(UserError, match="cannot be read"):
        reopen_run(bad.folder)
