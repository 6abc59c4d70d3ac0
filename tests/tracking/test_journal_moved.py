"""A journal whose folder is moved or removed says so; a forked process records nothing in its parent's."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reglab.tracking import RunTracker, last_status, reopen_run
from reglab.tracking.admin.sync import sync
from reglab.tracking.journal import Journal

Start = Callable[..., RunTracker]


def test_a_run_whose_folder_was_removed_cannot_be_checkpointed(start: Start) -> None:
    run = start()
    run.log({"loss": 1.0}, 0)
    run.sync()
    shutil.rmtree(run.folder)
    with pytest.raises(OSError, match="was moved or removed while its run trained") as raised:
        run.sync()
    assert raised.value.errno == errno.ESTALE
    run.finish("FAILED")  # which is to end all the same


def test_a_run_whose_folder_was_moved_goes_on_there(start: Start, client: Any) -> None:
    run = start()
    run.log({"loss": 1.0}, 0)
    moved = run.folder.with_name("moved")
    run.folder.rename(moved)
    run.folder.mkdir()
    (run.folder / "journal.jsonl").touch()  # another one in its place
    with pytest.raises(OSError, match="move it back and resume the run"):
        run.journal.check_in_place()
    run.finish("FAILED")
    assert last_status(moved) == "FAILED"
    shutil.rmtree(run.folder)
    resumed = reopen_run(moved)
    resumed.log({"loss": 0.5}, 1)
    resumed.finish()
    assert sync([moved], say=lambda text: None).complete
    found = client.get_run(run.run_id)
    assert (found.info.status, found.data.metrics) == ("FINISHED", {"loss": 0.5})


def test_a_forked_process_that_comes_back_is_ended_before_it_records(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append({"loss": 1.0}, 0)
    child = os.fork()
    if child == 0:
        journal.append({"loss": 2.0}, 1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert "a process that the code of a run forked came back from it, and is ended" in capfd.readouterr().err
    journal.append({"loss": 3.0}, 1)
    assert [(row.step, row.value) for row in journal.rows()] == [(0, 1.0), (1, 3.0)]
    journal.close()
