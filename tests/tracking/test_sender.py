"""One writer for all runs of a pack: everything arrives, once, whatever the others do."""

import logging
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from reglab.tracking import RunSpec, finish_runs, is_running, last_status, log_pack, open_runs, reopen_run, send
from reglab.tracking.folder import Identity
from reglab.tracking.journal import Journal
from reglab.tracking.payload import Refused, Unsent
from reglab.tracking.sender import JournalCursor, Sender, SenderLimits
from reglab.tracking.tracker import RunTracker

# Dies without a word between the journal and the store, after a part was sent.
KILLED = """
import os, pathlib, sys
from reglab.tracking import RunSpec, TrackingSettings, log_pack, open_runs
folder = pathlib.Path(sys.argv[1])
settings = TrackingSettings.from_config({"experiment": "study"}, folder)
pack = open_runs(settings, [RunSpec(str(n), folder / str(n), {}, {}, {}) for n in range(3)])
for step in range(40):
    log_pack(pack, ["val/loss", "gap/loss"], [[n + step / 7, n - step / 7] for n in range(3)], step)
    if step == 20:
        assert pack[1].flush()
os.kill(os.getpid(), 9)
"""


class Store:
    """Keeps what it is sent by run, and how often it was asked; refuses some runs, or everything."""

    def __init__(self):
        self.rows, self.status, self.calls, self.refuses, self.down = {}, {}, [], set(), False
        self.received = threading.Event()

    def send(self, batches):
        self.calls.append([batch.identity.run_id for batch in batches])
        if self.down:
            raise Unsent("the store is down")
        for run in self.calls[-1]:
            if run in self.refuses:
                raise Refused(f"{run} was deleted")
        for batch in batches:
            for row in batch.rows():
                assert (batch.identity.run_id, row.key, row.step) not in self.rows
                self.rows[batch.identity.run_id, row.key, row.step] = row.value
            if batch.status:
                self.status[batch.identity.run_id] = batch.status[0]
        self.received.set()


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def pack(tmp_path, store):
    def open_three(seconds=1000, **limits):
        sender = Sender(store, seconds, SenderLimits(**limits))
        return [RunTracker(Identity(name, name, None, None), tmp_path / name, sender) for name in "abc"]

    return open_three


def writers():
    return [thread for thread in threading.enumerate() if thread.name == "reglab-sender"]


def test_members_end_at_different_times_and_the_one_thread_with_the_last(pack, store):
    before = len(writers())
    a, b, c = pack()
    assert len(writers()) == before + 1
    log_pack([a, b, c], ["loss"], [[1.0]] * 3, 0)
    b.finish("FAILED")
    assert store.rows == {("b", "loss", 0): 1.0}  # its own alone
    log_pack([a, c], ["loss"], [[2.0]] * 2, 1)
    assert a.flush()
    assert store.calls == [["b"], ["a"]]
    finish_runs([c, a], ["FINISHED", "KILLED"])
    assert store.calls[2:] == [["c", "a"]]  # together
    assert store.status == {"a": "KILLED", "b": "FAILED", "c": "FINISHED"}
    assert len(store.rows) == 5
    assert len(writers()) == before


def test_the_background_writer_sends_all_members_at_once(pack, store):
    trackers = pack(seconds=0.01)
    log_pack(trackers, ["loss"], [[1.0]] * 3, 0)
    assert store.received.wait(timeout=30)
    finish_runs(trackers, ["FINISHED"] * 3)
    assert sorted(store.rows) == [(name, "loss", 0) for name in "abc"]


def test_a_member_that_ends_waits_for_one_batch_of_the_others_at_most(pack, store):
    reached, send = threading.Event(), store.send

    def slow(batches):
        if not reached.is_set():  # the background's first batch lasts until training asks
            reached.set()
            assert trackers[0]._sender._urgent.wait(timeout=30)
        send(batches)

    store.send = slow
    trackers = pack(seconds=0.01, rows=3)  # one line of each member
    for step in range(50):
        log_pack(trackers, ["loss"], [[1.0]] * 3, step)
    assert reached.wait(timeout=30)
    trackers[1].finish()
    assert store.calls.index(["b"]) < 10  # of 50 that the background has to send
    finish_runs(trackers, ["FINISHED"] * 3)
    assert sorted(store.rows) == [(name, "loss", step) for name in "abc" for step in range(50)]


def test_a_run_that_the_store_refuses_does_not_hold_up_the_others(pack, store, caplog):
    trackers = pack()
    store.refuses = {"b"}
    log_pack(trackers, ["loss"], [[1.0]] * 3, 0)
    with caplog.at_level(logging.WARNING):
        finish_runs(trackers, ["FINISHED"] * 3)
    assert sorted(store.rows) == [("a", "loss", 0), ("c", "loss", 0)]
    assert store.status == {"a": "FINISHED", "c": "FINISHED"}
    assert "b was deleted" in caplog.text
    assert [record.args[0] for record in caplog.records if "not in the store yet" in record.message] == ["b"]


def test_a_store_that_is_down_is_asked_once_for_all(pack, store, caplog):
    trackers = pack()
    log_pack(trackers, ["loss"], [[1.0]] * 3, 0)
    store.down = True
    with caplog.at_level(logging.WARNING):
        finish_runs(trackers, ["FINISHED"] * 3)
    assert store.calls == [["a", "b", "c"]]
    assert caplog.text.count("Training continues") == 1
    assert caplog.text.count("not in the store yet") == 3


def test_much_is_sent_before_its_time(pack, store):
    trackers = pack(seconds=1000, poll_seconds=0.01, backlog_bytes=100)
    log_pack(trackers, ["loss"], [[1.0]] * 3, 0)
    assert store.received.wait(timeout=30)
    finish_runs(trackers, ["FINISHED"] * 3)
    assert len(store.rows) == 3


def test_rows_are_durable_in_the_journal_before_a_store_has_them(tmp_path, store, monkeypatch):
    happened, fsync, send = [], os.fsync, store.send

    def note(file):
        happened.append(os.fstat(file).st_ino)
        fsync(file)

    def keep(batches):
        happened.append("sent")
        send(batches)

    journals = [Journal(tmp_path / name / "journal.jsonl") for name in "abc"]
    for journal in journals:
        journal.append({"loss": 1.0}, 0)
    cursors = [JournalCursor(Identity(name, name, None, None), tmp_path / name) for name in "abc"]
    monkeypatch.setattr(os, "fsync", note)
    store.send = keep
    assert Sender(store).flush(cursors)
    assert sorted(happened[:3]) == sorted(journal.path.stat().st_ino for journal in journals)
    assert happened[3:] == ["sent"]
    for journal in journals:
        journal.close()


@pytest.mark.parametrize("steps", [3, 40])  # before it has reached its old length, and behind
def test_a_journal_cut_below_what_was_sent_is_sent_again(tmp_path, store, steps):
    def cursor():
        return JournalCursor(Identity("a", "a", None, None), tmp_path)

    journal = Journal(tmp_path / "journal.jsonl")
    for step in range(10):
        journal.append({"loss": step / 7}, step)
    sender = Sender(store)
    assert sender.flush([cursor()])
    journal.close()
    os.truncate(tmp_path / "journal.jsonl", 100)  # a power loss: one line and a torn one
    journal = Journal(tmp_path / "journal.jsonl")
    store.rows.clear()
    # Other lines than before; and the process dies before they are sent.
    for step in range(1, steps):
        journal.append({"loss": step / 7, "acc": 0.5}, step)
    assert sender.flush([cursor()])
    assert {step for _, key, step in store.rows if key == "loss"} == {*range(steps)}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the full disk is Linux's")
def test_a_disk_that_takes_no_position_loses_nothing_and_the_writer_goes_on(pack, store, tmp_path, caplog):
    class Told(logging.Handler):
        def emit(self, record):
            told.set()

    def again(batches):
        store.rows.clear()  # which the store has had, as often as the position could not be kept
        send(batches)

    told, logger, handler, send = threading.Event(), logging.getLogger("reglab.tracking.sender"), Told(), store.send
    positions = [tmp_path / name / "journal.sent.new" for name in "abc"]
    store.send = again
    trackers = pack(seconds=0.01)
    for position in positions:
        position.symlink_to("/dev/full")
    logger.addHandler(handler)
    with caplog.at_level(logging.WARNING):
        log_pack(trackers, ["loss"], [[1.0]] * 3, 0)
        assert told.wait(timeout=30)
        for position in positions:
            position.unlink(missing_ok=True)
        finish_runs(trackers, ["FINISHED"] * 3)
    logger.removeHandler(handler)
    assert store.status == dict.fromkeys("abc", "FINISHED")
    assert "No space left" in caplog.text
    assert all((tmp_path / name / "journal.sent").exists() for name in "abc")


def test_a_kill_between_journal_and_store_loses_and_doubles_nothing(settings, client, tmp_path):
    died = subprocess.run([sys.executable, "-c", KILLED, tmp_path], check=False)
    assert died.returncode == -9
    runs = [reopen_run(tmp_path / "0")]
    assert send(tmp_path / "1")
    assert [last_status(tmp_path / str(number)) for number in range(3)] == ["RUNNING"] * 3
    (tmp_path / "1" / "journal.sent").unlink()  # a death between the store and the position
    runs += [reopen_run(tmp_path / str(number)) for number in (1, 2)]
    # The last step again.
    log_pack(runs, ["val/loss", "gap/loss"], [[n + 39 / 7, n - 39 / 7] for n in range(3)], 39)
    finish_runs(runs, ["KILLED"] * 3)
    for number, run in enumerate(runs):
        history = client.get_metric_history(run.run_id, "val/loss")
        assert [(m.step, m.value) for m in history] == [(step, number + step / 7) for step in range(40)]
        assert client.get_run(run.run_id).info.status == "KILLED"
        assert last_status(tmp_path / str(number)) == "KILLED"


def test_a_deleted_run_in_mlflow_leaves_the_rest_of_the_pack_whole(settings, client, tmp_path, caplog):
    pack = open_runs(settings, [RunSpec(str(n), tmp_path / str(n), {"a": n}, {}, {}) for n in range(3)])
    client.delete_run(pack[1].run_id)
    log_pack(pack, ["loss"], [[1.0], [2.0], [3.0]], 0)
    with caplog.at_level(logging.WARNING):
        finish_runs(pack, ["FINISHED"] * 3)
    assert f"{pack[1].run_id} was deleted in MLflow" in caplog.text
    records = [client.get_run(tracker.run_id) for tracker in pack]
    assert [record.info.status for record in records] == ["FINISHED", "RUNNING", "FINISHED"]
    assert [record.data.metrics for record in records] == [{"loss": 1.0}, {}, {"loss": 3.0}]


def test_an_artifact_that_cannot_be_placed_holds_up_nothing_else(settings, client, tmp_path, monkeypatch, caplog):
    def copy(source, target):
        if "1/config.yaml" in str(source):
            raise PermissionError("not yours")
        return kept(source, target)

    kept = shutil.copy2
    monkeypatch.setattr("reglab.tracking.artifacts.shutil.copy2", copy)
    pack = open_runs(settings, [RunSpec(str(n), tmp_path / str(n), {"a": n}, {}, {}) for n in range(3)])
    with caplog.at_level(logging.WARNING):
        finish_runs(pack, ["FINISHED"] * 3)
    states = [client.get_run(tracker.run_id).info.status for tracker in pack]
    assert states == ["FINISHED"] * 3
    monkeypatch.undo()
    assert send(tmp_path / "1")
    assert client.get_run(pack[1].run_id).info.status == "FINISHED"


def test_a_name_set_as_a_tag_and_a_tag_too_long_do_what_they_do_in_mlflow(settings, client, tmp_path):
    pack = open_runs(settings, [RunSpec(str(n), tmp_path / str(n), {}, {}, {}) for n in range(2)])
    pack[0].tag(**{"mlflow.runName": "renamed"})
    pack[1].tag(**{"reglab.message": "m" * 9_000})
    finish_runs(pack, ["FINISHED"] * 2)
    records = [client.get_run(tracker.run_id) for tracker in pack]
    assert [record.info.run_name for record in records] == ["renamed", "1"]
    assert records[1].data.tags["reglab.message"] == "m" * 8_000


def test_after_a_failure_little_is_sent_at_once_then_more_and_more(pack, store, monkeypatch):
    trackers = pack(rows_after_failure=30)
    sizes = []
    send, store.down = store.send, True
    monkeypatch.setattr(store, "send", lambda batches: (sizes.append(sum(b.size for b in batches)), send(batches)))
    for step in range(100):
        log_pack(trackers, ["loss"], [[1.0]] * 3, step)
    assert not trackers[0].flush()
    store.down = False
    finish_runs(trackers, ["FINISHED"] * 3)
    assert sizes == [100, 30, 60, 120, 90]
    assert len(store.rows) == 300


def test_a_store_known_to_be_away_does_not_hold_up_the_end_for_long(pack, store, monkeypatch):
    trackers = pack(close_seconds=0.0)
    store.down, asked, answers = True, threading.Event(), threading.Event()
    assert not trackers[0].log({"loss": 1.0}, 0)
    assert not trackers[0].flush()

    def swallow(batches):
        asked.set()
        answers.wait(timeout=60)

    monkeypatch.setattr(store, "send", swallow)
    finish_runs(trackers, ["FINISHED"] * 3)  # returns though the store has not answered
    assert asked.wait(timeout=60)
    answers.set()


def test_a_store_that_never_answers_does_not_hold_a_finished_run(pack, store, caplog):
    answered, send = threading.Event(), store.send

    def hang(batches):
        answered.wait()
        send(batches)

    store.send = hang
    a, _, _ = pack(last_seconds=0.2, quiet_seconds=0.1)
    a.log({"loss": 1.0}, 0)
    with caplog.at_level(logging.WARNING):
        a.finish()
    told = [record.getMessage() for record in caplog.records]
    assert "Waiting for the store" in told[0]
    assert "Ctrl-C" in told[0]
    assert "not in the store yet" in told[1]
    assert last_status(a.folder) == "FINISHED"
    assert not is_running(a.folder)
    answered.set()


def test_ctrl_c_ends_the_wait_and_closes_the_run(pack, store, monkeypatch):
    a, _, _ = pack()

    def interrupt(cursors):
        raise KeyboardInterrupt

    closed = threading.Event()
    monkeypatch.setattr(a.journal, "close", closed.set)
    monkeypatch.setattr(a._sender, "close", interrupt)
    with pytest.raises(KeyboardInterrupt):
        a.finish()
    assert closed.is_set()
