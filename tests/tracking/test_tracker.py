import logging
import os
import threading

import pytest

from reglab.core.errors import UserError
from reglab.tracking.folder import Identity
from reglab.tracking.lock import RunLock, is_running
from reglab.tracking.payload import Unsent
from reglab.tracking.sender import Sender, read_position
from reglab.tracking.tracker import RunTracker


class Store:
    """A store in memory that can be taken down."""

    def __init__(self):
        self.rows, self.tags, self.artifacts, self.status = {}, {}, [], None
        self.down = False
        self.received = threading.Event()

    def send(self, batches):
        if self.down:
            raise Unsent("the store is down")
        for batch in batches:
            self.rows |= {(row.key, row.step): row.value for row in batch.rows()}
            self.tags |= batch.tags
            self.status = batch.status or self.status
        self.received.set()

    def send_artifact(self, run_id, home, artifact):
        self.artifacts.append(artifact)


def track(folder, store, seconds=1000):
    return RunTracker(Identity("id", "run", None, None), folder, Sender(store, seconds))


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def tracker(tmp_path, store):
    made = track(tmp_path / "run", store)
    yield made
    made.finish()


def test_finish_sends_everything_and_the_status_last(tracker, store, tmp_path):
    (tmp_path / "run" / "config.yaml").write_text("")
    tracker.log({"loss": 2.0}, step=1)
    tracker.log({"loss": 1.0}, step=2)
    tracker.summary({"val/loss": 0.5})
    tracker.tag(**{"reglab.score": "r2", "reglab.seed": 3})
    tracker.artifact(tmp_path / "run" / "config.yaml")
    assert store.rows == {}  # nothing waits for the store
    tracker.finish("KILLED")
    assert store.rows == {("loss", 1): 2.0, ("loss", 2): 1.0, ("final/val/loss", 2): 0.5}
    assert store.tags == {"reglab.score": "r2", "reglab.seed": "3"}
    assert store.artifacts == [("config.yaml", "")]
    assert store.status[0] == "KILLED"


def test_the_background_writer_sends_while_training_goes_on(tmp_path, store):
    tracker = track(tmp_path, store, seconds=0.01)
    tracker.log({"loss": 2.0}, step=1)
    assert store.received.wait(timeout=30)
    assert store.rows == {("loss", 1): 2.0}
    tracker.finish()


def test_the_first_end_counts(tracker, store):
    tracker.finish("FAILED")
    tracker.finish("FINISHED")
    assert store.status[0] == "FAILED"


def test_an_unknown_status_is_refused(tracker):
    with pytest.raises(ValueError, match="FINISHED, FAILED, KILLED, got 'DONE'"):
        tracker.finish("DONE")


def test_a_store_that_is_down_is_said_once_and_gets_all_when_it_is_back(tracker, store, caplog):
    store.down = True
    with caplog.at_level(logging.WARNING):
        for step in range(5):
            tracker.log({"loss": step}, step)
            assert not tracker.flush()
    assert len(caplog.records) == 1
    assert "the store is down. Training continues" in caplog.text
    store.down = False
    assert tracker.flush()
    assert store.rows == {("loss", step): step for step in range(5)}


def test_what_was_not_sent_at_the_end_is_said_with_what_to_do(tmp_path, store, caplog):
    tracker = track(tmp_path, store)
    tracker.log({"loss": 1.0}, step=1)
    store.down = True
    with caplog.at_level(logging.WARNING):
        tracker.finish()
    size = (tmp_path / "journal.jsonl").stat().st_size
    assert f"{size} bytes of its journal are not in the store yet" in caplog.text
    assert f"reglab sync {tmp_path}" in caplog.text


def test_only_what_is_new_is_sent_after_reopening(tmp_path, store):
    first = track(tmp_path, store)
    first.log({"loss": 1.0}, step=1)
    first.finish("KILLED")
    store.rows.clear()
    second = track(tmp_path, store)
    second.log({"loss": 1.0}, step=1)
    second.log({"loss": 0.5}, step=2)
    second.finish()
    assert store.rows == {("loss", 2): 0.5}
    assert store.status[0] == "FINISHED"


@pytest.mark.parametrize("kept, position", [("5", 5), ("11", 0), ("-1", 0), ("x", 0), ("", 0)])
def test_a_position_that_cannot_be_right_sends_all_again(tmp_path, kept, position):
    (tmp_path / "journal.sent").write_text(kept)
    assert read_position(tmp_path / "journal.sent", length=10) == position


def test_a_summary_after_resuming_stands_at_the_last_step(tmp_path, store):
    first = track(tmp_path, store)
    first.log({"loss": 1.0}, step=9)
    first.finish("KILLED")
    second = track(tmp_path, store)
    second.summary({"val/loss": 1.0})
    second.finish()
    assert ("final/val/loss", 9) in store.rows


def test_a_long_note_goes_on_in_a_file(tracker, store, tmp_path):
    tracker.note("# verdict\n" + "x" * 20_000)
    tracker.finish()
    assert len(store.tags["mlflow.note.content"]) <= 8_000
    assert store.tags["mlflow.note.content"].endswith("(continued in the artifact note.md)")
    assert store.artifacts == [("note.md", "")]
    assert len((tmp_path / "run" / "note.md").read_text()) == 20_010


def test_an_artifact_from_elsewhere_is_copied_in_and_a_missing_one_is_refused(tracker, store, tmp_path):
    (tmp_path / "plot.png").write_text("a plot")
    (tmp_path / "figures" / "deep").mkdir(parents=True)
    (tmp_path / "figures" / "deep" / "b.png").write_text("b")
    tracker.artifact(tmp_path / "plot.png", "figures")
    tracker.artifact(tmp_path / "figures")
    (tmp_path / "plot.png").unlink()
    with pytest.raises(UserError, match="does not exist: write it before"):
        tracker.artifact(tmp_path / "other.png")
    tracker.finish()
    assert store.artifacts == [("attached/figures/plot.png", "figures"), ("attached/figures", "")]
    assert (tmp_path / "run" / "attached/figures/plot.png").read_text() == "a plot"
    assert (tmp_path / "run" / "attached/figures/deep/b.png").read_text() == "b"


@pytest.mark.parametrize("folder", ["..", "a/../../b", "/etc", "..\\x"])
def test_an_artifact_stays_among_the_artifacts_of_its_run(tracker, tmp_path, folder):
    (tmp_path / "plot.png").write_text("")
    with pytest.raises(UserError, match="leads out of the run's artifacts: give a plain relative path"):
        tracker.artifact(tmp_path / "plot.png", folder)


def test_secrets_are_not_recorded(tracker, store, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2-hunter2")
    tracker.tag(why="hunter2-hunter2 was refused")
    tracker.note("hunter2-hunter2" + "x" * 8_000)
    tracker.finish()
    assert store.tags["why"] == "*** was refused"
    assert "hunter2" not in (tracker.folder / "note.md").read_text() + store.tags["mlflow.note.content"]


def test_one_process_at_a_time_has_a_run(tmp_path, store):
    tracker = RunTracker(Identity("id", "run", None, None), tmp_path, None, RunLock(tmp_path))
    assert is_running(tmp_path)
    with pytest.raises(UserError, match=f"process {os.getpid()} is running the run in {tmp_path}"):
        RunLock(tmp_path)
    tracker.finish()
    assert not is_running(tmp_path)


def test_two_keys_that_mlflow_cannot_tell_apart_keep_all_their_rows(start, client):
    run = start("run")
    for step in range(3):
        run.log({"w[0]": 1.0}, step)
        run.log({"w-5b-0-5d-": 2.0}, step)
    run.finish()
    found = client.get_metric_history(run.run_id, "w-5b-0-5d-")
    assert sorted((m.step, m.value) for m in found) == [(step, value) for step in range(3) for value in (1.0, 2.0)]
