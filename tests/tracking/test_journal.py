import logging
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reglab.tracking import payload as payloads
from reglab.tracking.folder import Identity
from reglab.tracking.journal import Journal
from reglab.tracking.payload import chunks


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.jsonl"


def read_batch(path, after, **given):
    return payloads.read_payload(Identity("id", "run", None, None), path.parent, after, **given)


def values(journal):
    return {(row.key, row.step): row.value for row in journal.rows()}


def test_values_come_back_exactly_also_those_that_are_no_numbers(path):
    journal = Journal(path)
    journal.append({"third": 1 / 3, "nan": math.nan, "up": math.inf, "down": -math.inf}, step=7)
    journal.close()
    found = values(Journal(path))
    assert found["third", 7] == 1 / 3
    assert math.isnan(found["nan", 7])
    assert (found["up", 7], found["down", 7]) == (math.inf, -math.inf)


def test_rows_that_are_there_already_are_dropped_also_after_reopening(path):
    journal = Journal(path)
    journal.append({"loss": 1.0, "nan": math.nan}, step=1)
    journal.append({"loss": 2.0}, step=2)
    journal.close()
    size = path.stat().st_size

    again = Journal(path)
    again.append({"loss": 1.0, "nan": math.nan}, step=1)
    again.append({"loss": 2.0}, step=2)
    assert (again.dropped, again.conflicts, path.stat().st_size) == (3, 0, size)
    again.append({"loss": 3.0}, step=3)
    again.append({"loss": 9.0}, step=3)
    assert values(again)["loss", 3] == 3.0


def test_a_step_between_recorded_ones_is_new(path):
    journal = Journal(path)
    journal.append({"loss": 1.0}, step=1)
    journal.append({"loss": 3.0}, step=10)
    journal.append({"loss": 2.0}, step=5)
    assert [(row.step, row.value) for row in journal.rows()] == [(1, 1.0), (10, 3.0), (5, 2.0)]


def test_differing_values_are_counted_and_said_once(path, caplog):
    journal = Journal(path)
    journal.append({"loss": 1.0, "acc": 0.5, "system/cpu": 10.0}, step=1)
    with caplog.at_level(logging.WARNING):
        journal.append({"loss": 1.5, "acc": 0.6, "system/cpu": 20.0}, step=1)
    assert journal.conflicts == 2  # the load of the machine differs by nature
    assert len(caplog.records) == 1
    assert "loss at step 1 was recorded as 1.0 and is now 1.5" in caplog.text
    assert values(journal)["loss", 1] == 1.0


@pytest.mark.parametrize("tail", [b'{"time":1,"step":2,"metr', b"\0\0\0\0", b'{"time":1}junk\n', b"[1]\n"])
def test_a_torn_end_is_cut_and_the_journal_goes_on(path, tail):
    journal = Journal(path)
    journal.append({"loss": 1.0}, step=1)
    whole = journal.position
    journal.close()
    with path.open("ab") as file:
        file.write(tail)

    again = Journal(path)
    assert again.position == whole
    again.append({"loss": 2.0}, step=2)
    assert values(again) == {("loss", 1): 1.0, ("loss", 2): 2.0}


def test_a_broken_line_in_the_middle_is_passed_over(path):
    journal = Journal(path)
    journal.append({"loss": 1.0}, step=1)
    with path.open("ab") as file:
        file.write(b"\0\0\0\n")
    journal.append({"loss": 2.0}, step=2)
    assert values(Journal(path)) == {("loss", 1): 1.0, ("loss", 2): 2.0}


def test_a_line_behind_zeros_that_a_power_loss_left_is_read(path):
    journal = Journal(path)
    journal.append({"loss": 1.0}, step=1)
    with path.open("ab") as file:
        # The rest of a block that was never written.
        file.write(b'{"time":1,"step":2,"met' + b"\0" * 5000)
    os.write(journal._file, b'{"time":7,"step":3,"metrics":{"loss":3.0}}\n')
    journal.close()
    again = Journal(path)
    assert values(again) == {("loss", 1): 1.0, ("loss", 3): 3.0}
    again.append({"loss": 2.0}, step=2)  # training comes to it again
    again.append({"loss": 3.0}, step=3)
    assert again.dropped == 1
    assert values(Journal(path)) == {("loss", 1): 1.0, ("loss", 2): 2.0, ("loss", 3): 3.0}


@pytest.mark.parametrize(
    "line", [b'{"metrics":{"a":1.0}}', b'{"time":1,"step":"2","metrics":{"a":1.0}}', b'{"metrics":5}']
)
def test_a_line_of_another_shape_is_passed_over(path, line):
    path.write_bytes(b'{"time":1,"step":1,"metrics":{"a":1.0}}\n' + line + b'\n{"time":1,"status":"KILLED"}\n')
    journal = Journal(path)
    assert values(journal) == {("a", 1): 1.0}
    assert journal.position == path.stat().st_size


def test_a_line_that_is_still_being_written_is_left_for_later(path):
    journal = Journal(path)
    journal.append({"loss": 1.0}, step=1)
    end = journal.position
    with path.open("ab") as file:
        file.write(b'{"time":5,"step":2,')
    assert read_batch(path, 0).end == end
    with path.open("ab") as file:
        file.write(b'"metrics":{"loss":2.0}}\n')
    late = read_batch(path, end)
    assert [tuple(row) for row in late.rows()] == [("loss", 2.0, 5, 2)]


def test_the_death_of_the_process_loses_nothing(path):
    script = (
        "import os, sys, pathlib; from reglab.tracking.journal import Journal\n"
        "journal = Journal(pathlib.Path(sys.argv[1]))\n"
        "for step in range(100): journal.append({'loss': step / 7}, step)\n"
        "os.kill(os.getpid(), 9)"
    )
    died = subprocess.run([sys.executable, "-c", script, path], check=False)
    assert died.returncode == -9
    assert values(Journal(path)) == {("loss", step): step / 7 for step in range(100)}


def test_a_full_disk_leaves_the_journal_whole(path, monkeypatch):
    journal = Journal(path)
    journal.append({"loss": 1.0}, step=1)
    whole = path.read_bytes()
    write = os.write
    monkeypatch.setattr("reglab.tracking.journal.os.write", lambda file, line: write(file, line[:10]))
    with pytest.raises(OSError, match="free some disk space"):
        journal.append({"loss": 2.0}, step=2)
    monkeypatch.undo()
    assert path.read_bytes() == whole
    journal.append({"loss": 2.0}, step=2)
    assert values(Journal(path)) == {("loss", 1): 1.0, ("loss", 2): 2.0}


# Writes until the system takes no more, frees space, goes on.
FULL = """
import pathlib, resource, sys
from reglab.tracking.journal import Journal
journal = Journal(pathlib.Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, resource.RLIM_INFINITY))
step = 0
try:
    while True:
        journal.append({"loss": step / 7, "acc": float("nan")}, step)
        step += 1
except OSError as error:
    print(error)
size = pathlib.Path(sys.argv[1]).stat().st_size
assert size == journal.position <= 1_000
for attempt in range(2):  # still full
    try:
        journal.append({"loss": step / 7}, step)
    except OSError:
        pass
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
for late in range(step, int(sys.argv[2])):
    journal.append({"loss": late / 7, "acc": float("nan")}, late)
assert (journal.dropped, step > 5) == (0, True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no limit on the size of files")
@pytest.mark.parametrize("last", [40, 0])  # goes on in the same process, or ends there
def test_when_space_is_back_the_same_process_or_a_new_one_goes_on(path, last):
    ran = subprocess.run([sys.executable, "-c", FULL, path, str(last)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "free some disk space, then resume the run" in ran.stdout
    again = Journal(path)
    for step in range(again.top, 40):
        again.append({"loss": step / 7, "acc": math.nan}, step)
    found = values(again)
    assert {key: found["loss", key] for key in range(40)} == {step: step / 7 for step in range(40)}
    assert len(found) == len(list(again.rows())) == 80
    assert again.conflicts == 0


def test_a_batch_holds_the_last_tags_and_status_and_each_artifact_once(path):
    journal = Journal(path)
    journal.record(tags={"a": "1", "b": "1"})
    journal.record(status="RUNNING")
    journal.record(artifact="x", folder="")
    journal.record(artifact="x", folder="")
    journal.record(tags={"a": "2"})
    journal.record(status="FINISHED")
    batch = read_batch(path, 0)
    assert batch.tags == {"a": "2", "b": "1"}
    assert list(batch.artifacts) == [("x", "")]
    assert batch.status is not None
    assert batch.status[0] == "FINISHED"
    assert batch.end == journal.position


def test_batches_of_a_few_rows_give_every_row_once(path):
    journal = Journal(path)
    for step in range(10):
        journal.append({"a": step, "b": -step}, step)
    rows, after = [], 0
    while (batch := read_batch(path, after, rows=3)).end > after:
        assert len(list(batch.rows())) == batch.size <= 4
        rows += batch.rows()
        after = batch.end
    assert sorted(rows) == sorted(journal.rows())
    assert len(rows) == 20


def test_a_checkpoints_position_separates_what_came_before_it(tmp_path: Path):
    journal = Journal(tmp_path / "deep" / "journal.jsonl")
    journal.append({"loss": 1.0}, step=1)
    position = journal.sync()
    journal.append({"loss": 2.0}, step=2)
    assert [row.step for row in journal.rows(after=position)] == [2]


def test_a_position_behind_the_end_of_a_journal_that_was_cut_gives_no_rows(path):
    journal = Journal(path)
    journal.append({"loss": 1.0}, step=1)
    position = journal.sync()
    os.truncate(path, 0)
    assert list(journal.rows(after=position)) == []
    assert read_batch(path, position).end == position


def test_repeated_steps_are_known_again_in_any_order(path):
    journal = Journal(path)
    for step in range(10):
        journal.append({"loss": step / 7}, step)
    journal.close()
    again = Journal(path)
    for step in (8, 9, 10, 3, 10, 0, 9):
        again.append({"loss": step / 7}, step)
    assert (again.dropped, again.conflicts) == (6, 0)
    assert values(again) == {("loss", step): step / 7 for step in range(11)}


def test_chunks_cover_everything_in_order():
    assert list(chunks(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(chunks([], 2)) == []
