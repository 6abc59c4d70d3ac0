"""Which groups of an earlier launch resume as they were."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from reglab.core.errors import UserError
from reglab.launchers import resumable_jobs
from reglab.launchers.compose import Composer, JobGroup
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


def launched(numbers: Sequence[int]) -> dict[int, tuple[str, ...]]:
    """Return overrides by launch number, which counts from 0."""
    return {index: (f"seed={number}", f"sweep.job={number}") for index, number in enumerate(numbers)}


def test_a_pack_keeps_its_jobs_and_their_order(tmp_path: Path) -> None:
    made(tmp_path, 2, 5, 4, 7)
    cut(tmp_path, 5, 2, 4)
    jobs = launched([2, 4, 5, 7])
    assert resumable_jobs.pack_groups(tmp_path, jobs) == [JobGroup((2, 0, 1), (jobs[2], jobs[0], jobs[1]))]


def test_a_pack_of_which_a_job_is_not_launched_is_left(tmp_path: Path) -> None:
    made(tmp_path, 0, 1)
    cut(tmp_path, 0, 1)
    assert resumable_jobs.pack_groups(tmp_path, launched([0])) == []


def test_no_job_is_handed_out_twice(tmp_path: Path) -> None:
    made(tmp_path, 0, 1, 2)
    cut(tmp_path, 0, 1)
    cut(tmp_path, 1, 2)
    assert [group.jobs for group in resumable_jobs.pack_groups(tmp_path, launched([0, 1, 2]))] == [(0, 1)]


@pytest.mark.parametrize(
    "end, goes_on",
    [({}, True), ({"status": "KILLED"}, True), ({"status": "FAILED"}, True), ({"status": "FINISHED"}, False)],
)
def test_a_job_alone_goes_on_unless_it_is_over(end: dict, goes_on: bool, master, hydra, conf: Path) -> None:
    composer = Composer(hydra.config_loader, master)
    made(Path("out"), 0)
    journal = Journal(Path("out/0") / JOURNAL)
    journal.record(tags={"a": "b"})
    if end:
        journal.record(**end)
    journal.close()
    assert resumable_jobs.solo_groups(Path("out"), launched([0]), composer) == []
    Path("out/0/checkpoints").mkdir()
    Path("out/0/checkpoints/last.previous.ckpt").touch()
    expected = [JobGroup((0,), (("seed=0", "sweep.job=0"),))] if goes_on else []
    assert resumable_jobs.solo_groups(Path("out"), launched([0]), composer) == expected


def test_it_waits_for_workers_and_not_for_ever(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    resumable_jobs.wait_for_workers(tmp_path)
    lock = RunLock(tmp_path / "0")
    with pytest.raises(UserError, match="still being written"):
        resumable_jobs.wait_for_workers(tmp_path, seconds=0)
    lock.release()
    assert "waiting" in capsys.readouterr().err
    resumable_jobs.wait_for_workers(tmp_path)
    assert capsys.readouterr().err == ""
