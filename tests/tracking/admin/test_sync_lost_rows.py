"""A journal that has lost rows, or a run's identity, costs that run alone, and ends none anew."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reglab.core.errors import UserError
from reglab.tracking import RunSpec, RunTracker, TrackingSettings, last_status, open_runs
from reglab.tracking.admin.clean import clean
from reglab.tracking.admin.sync import SyncResult, sync
from reglab.tracking.folder import IDENTITY, START, read_identity
from reglab.tracking.run_state import read_state

Start = Callable[..., RunTracker]


def synced(*folders: Path) -> tuple[SyncResult, str]:
    said: list[str] = []
    return sync(folders, say=said.append), "\n".join(said)


def offline(settings: TrackingSettings, tmp_path: Path) -> RunTracker:
    spec = RunSpec("offline", tmp_path / "runs" / "offline", config={}, params={}, tags={})
    (run,) = open_runs(replace(settings, backend="offline"), [spec])
    return run


def finished(run: RunTracker) -> Path:
    for step in range(5):
        run.log({"loss": 1.0 / (step + 1)}, step)
    run.finish()
    return run.folder


CUTS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "other": lambda content: b"{}\n",
    "noise": lambda content: b"\xff" * len(content),
}


@pytest.mark.parametrize("how", [*CUTS, "gone"])
def test_a_finished_run_stays_so_in_its_store_when_its_journal_is_damaged(start: Start, client: Any, how: str) -> None:
    run = start()
    journal = finished(run) / "journal.jsonl"
    before = client.get_run(run.run_id)
    if how == "gone":
        journal.unlink()
    else:
        journal.write_bytes(CUTS[how](journal.read_bytes()))
    result, said = synced(run.folder)
    assert not result.complete
    assert f"{journal} is damaged: it has lost rows that " in said
    assert "FINISHED" in said
    after = client.get_run(run.run_id)
    assert (after.info.status, after.info.end_time, after.data.to_dictionary()) == (
        "FINISHED",
        before.info.end_time,
        before.data.to_dictionary(),
    )


def test_a_run_that_its_store_has_open_is_ended_though_rows_of_its_journal_are_lost(start: Start, client: Any) -> None:
    run = start()
    for step in range(5):
        run.log({"loss": 1.0}, step)
    run.finish("KILLED")
    client.update_run(run.run_id, status="RUNNING")  # as after a power loss: its end was never sent
    journal = run.folder / "journal.jsonl"
    journal.write_bytes(CUTS["half"](journal.read_bytes()))
    result, said = synced(run.folder)
    assert result.complete, said
    assert last_status(run.folder) == client.get_run(run.run_id).info.status == "KILLED"


def test_a_run_that_has_checkpoints_is_not_discarded_when_its_journal_is_gone(
    settings: TrackingSettings, tmp_path: Path
) -> None:
    folder = finished(offline(settings, tmp_path))
    (folder / "checkpoints").mkdir()
    (folder / "journal.jsonl").unlink()
    result, said = synced(folder)
    assert "journal.jsonl is gone or empty, but the run has results" in said
    assert result.refused.keys() == {folder}
    assert (folder / START).exists()
    assert (folder / IDENTITY).exists()


def test_a_run_that_lost_its_identity_is_named_and_the_one_beside_it_is_served(
    start: Start, settings: TrackingSettings, client: Any, tmp_path: Path
) -> None:
    lost, healthy = start(), offline(settings, tmp_path)
    finished(lost), finished(healthy)
    (lost.folder / IDENTITY).unlink()
    result, said = synced(lost.folder, healthy.folder)
    assert f"{lost.folder} has lost its run.json, which says whose rows its journal.jsonl holds" in said
    assert (result.runs, result.refused.keys()) == (1, {lost.folder})
    assert client.get_run(read_identity(healthy.folder).run_id).info.status == "FINISHED"
    content = {path: path.read_bytes() for path in lost.folder.rglob("*") if path.is_file()}
    clean([lost.folder], str(read_identity(healthy.folder).uri), lambda question: True, print)
    assert {path: path.read_bytes() for path in lost.folder.rglob("*") if path.is_file()} == content


def test_a_folder_in_the_place_of_a_runs_file_is_named(start: Start) -> None:
    folder = finished(start())
    for name in ("journal.jsonl", "journal.sent", "run.lock", "created.json", "config.yaml", "last.ckpt"):
        path = folder / ("checkpoints" if name.endswith("ckpt") else "") / name
        content = path.read_bytes() if path.exists() else None
        path.unlink(missing_ok=True)
        path.mkdir(parents=True)
        with pytest.raises(UserError, match=f"{name} is a folder, where a run has a file: put the file back"):
            read_state(folder)
        path.rmdir()
        if content is not None:
            path.write_bytes(content)
