"""Which groups of an earlier launch resume as they were."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from reglab.config.job_request import JobRequest
from reglab.core.errors import UserError
from reglab.launchers import resumable_jobs
from reglab.launchers.compose import JobGroup
from reglab.tracking.folder import JOURNAL, Identity, write_identity
from reglab.tracking.journal import Journal
from reglab.tracking.lock import RunLock
from reglab.tracking.pack_manifest import Manifest


def made(folder: Path, *numbers: int) -> None:
    """Leave a run in the folder of each job."""
    for number in numbers:
        write_identity(folder / str(number), Identity(f"run{number}", "a name", None, None))


def cut(folder: Path, *numbers: int) -> None:
    """Leave a pack that was being trained."""
    folders = tuple(str(folder / str(number)) for number in numbers)
    runs = tuple(f"run{number}" for number in numbers)
    Manifest("parent", numbers, folders, runs, ("print",) * len(numbers)).write(steps=3)


def launched(folder: Path, numbers: Sequence[int]) -> list[JobRequest]:
    return [JobRequest(number, (f"seed={number}",), folder=folder / str(number)) for number in numbers]


def test_a_pack_keeps_its_jobs_and_their_order(tmp_path: Path) -> None:
    made(tmp_path, 2, 5, 4, 7)
    cut(tmp_path, 5, 2, 4)
    jobs = launched(tmp_path, [2, 4, 5, 7])
    assert resumable_jobs.pack_groups(tmp_path, jobs) == [JobGroup((jobs[2], jobs[0], jobs[1]))]


def test_a_pack_of_which_a_job_is_not_launched_is_left(tmp_path: Path) -> None:
    made(tmp_path, 0, 1)
    cut(tmp_path, 0, 1)
    assert resumable_jobs.pack_groups(tmp_path, launched(tmp_path, [0])) == []


def test_no_job_is_handed_out_twice(tmp_path: Path) -> None:
    made(tmp_path, 0, 1, 2)
    cut(tmp_path, 0, 1)
    cut(tmp_path, 1, 2)
    assert [group.jobs for group in resumable_jobs.pack_groups(tmp_path, launched(tmp_path, [0, 1, 2]))] == [(0, 1)]


@pytest.mark.parametrize(
    "end, goes_on",
    [({}, True), ({"status": "KILLED"}, True), ({"status": "FAILED"}, True), ({"status": "FINISHED"}, False)],
)
def test_a_job_alone_goes_on_unless_it_is_over(end: dict, goes_on: bool, tmp_path: Path) -> None:
    made(tmp_path, 0)
    journal = Journal(tmp_path / "0" / JOURNAL)
    journal.record(tags={"a": "b"})
    if end:
        journal.record(**end)
    journal.close()
    requests = launched(tmp_path, [0])
    assert resumable_jobs.solo_groups(requests) == []
    (tmp_path / "0/checkpoints").mkdir()
    (tmp_path / "0/checkpoints/last.previous.ckpt").touch()
    assert resumable_jobs.solo_groups(requests) == ([JobGroup(tuple(requests))] if goes_on else [])


def test_it_waits_for_workers_and_not_for_ever(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    resumable_jobs.wait_for_workers(tmp_path)
    lock = RunLock(tmp_path / "0")
    with pytest.raises(UserError, match="still being written"):
        resumable_jobs.wait_for_workers(tmp_path, seconds=0)
    lock.release()
    assert "waiting" in capsys.readouterr().err
    resumable_jobs.wait_for_workers(tmp_path)
    assert capsys.readouterr().err == ""
