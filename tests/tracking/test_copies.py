"""Of several copies of a run's folder one goes on with the run; no row is doubled."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reglab.core.errors import UserError
from reglab.tracking import RunTracker, last_status, reopen_run
from reglab.tracking.admin.sync import sync
from reglab.tracking.copies import CLAIM, claimed, is_succession, succession
from reglab.tracking.folder import JOURNAL, read_identity, write_identity
from reglab.tracking.journal import Journal
from reglab.tracking.mlflow.late_sink import LateSink
from reglab.tracking.mlflow.read import get_run
from reglab.tracking.mlflow.sink import MlflowSink
from reglab.tracking.payload import ROWS, Payload, Refused
from reglab.tracking.sender import JournalCursor

Start = Callable[..., RunTracker]


def steps(client: Any, run: RunTracker) -> list[tuple[int, float]]:
    return [(row.step, row.value) for row in client.get_metric_history(run.run_id, "loss")]


@pytest.fixture
def run(start: Start) -> RunTracker:
    made = start()
    made.log({"loss": 1.0}, 1)
    made.finish("KILLED")
    return made


@pytest.fixture(params=["sql", "client"])
def _each_sink(request: pytest.FixtureRequest, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "client":
        monkeypatch.setattr(LateSink, "_connect", lambda self: MlflowSink(client, self._uri))


def test_a_copy_beside_its_original_is_refused(run: RunTracker, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run.folder, tmp_path / "copy"))
    with pytest.raises(UserError, match=rf"is a copy of the run in {run.folder}.*go on with that one"):
        reopen_run(copy)
    reopen_run(run.folder).finish()


def test_sync_leaves_the_run_of_a_copy_alone(run: RunTracker, tmp_path: Path, client: Any) -> None:
    original = reopen_run(run.folder)
    original.log({"loss": 0.5}, 2)
    assert original.flush()
    copy = Path(shutil.copytree(run.folder, tmp_path / "copy"))
    result = sync([copy], say=lambda text: None)
    assert "is a copy of the run" in result.refused[copy]
    assert last_status(copy) == "RUNNING"
    assert client.get_run(run.run_id).info.status == "RUNNING"
    original.finish()


@pytest.mark.usefixtures("_each_sink")
def test_a_moved_run_goes_on_again_and_again(run: RunTracker, tmp_path: Path, client: Any) -> None:
    for number in (2, 3):
        moved = tmp_path / f"moved {number}"
        shutil.move(run.folder if number == 2 else tmp_path / "moved 2", moved)
        again = reopen_run(moved)
        again.log({"loss": 1 / number}, number)
        again.finish("KILLED")
    assert steps(client, run) == [(1, 1.0), (2, 1 / 2), (3, 1 / 3)]


@pytest.mark.usefixtures("_each_sink")
def test_the_second_of_two_copies_doubles_no_row(
    run: RunTracker, tmp_path: Path, client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = (Path(shutil.copytree(run.folder, tmp_path / name)) for name in ("first", "second"))
    shutil.rmtree(run.folder)  # as on another machine
    for folder, value in ((first, 0.5), (second, 0.25)):
        again = reopen_run(folder)
        again.log({"loss": value}, 2)
        with caplog.at_level(logging.WARNING):
            again.finish("FINISHED" if folder == first else "FAILED")
    assert "was resumed in another copy of its folder" in caplog.text
    assert steps(client, run) == [(1, 1.0), (2, 0.5)]
    assert client.get_run(run.run_id).info.status == "FINISHED"
    assert "another copy" in sync([second], say=lambda text: None).refused[second]
    assert sync([first], say=lambda text: None).complete


def test_a_run_that_was_resumed_while_its_store_was_away_is_not_taken_for_a_copy(
    run: RunTracker, store: Path, tmp_path: Path, client: Any
) -> None:
    reopen_run(run.folder).finish("KILLED")
    store.rename(tmp_path / "away.db")
    for step in (2, 3):
        again = reopen_run(run.folder)
        again.log({"loss": 1 / step}, step)
        again.finish("KILLED")
    (tmp_path / "away.db").rename(store)
    assert sync([run.folder], say=lambda text: None).complete
    assert steps(client, run) == [(1, 1.0), (2, 1 / 2), (3, 1 / 3)]


class Interleaved:
    """A client of which another copy claims the run between the question and the answer."""

    def __init__(self, client: Any, meanwhile: Callable[[], None]) -> None:
        self._client, self._meanwhile = client, [meanwhile]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def get_run(self, run_id: str) -> Any:
        found = self._client.get_run(run_id)
        if self._meanwhile:
            self._meanwhile.pop()()
        return found


def payload_of(folder: Path) -> Payload:
    cursor = JournalCursor(read_identity(folder), folder)
    found = cursor.read(ROWS)
    assert found is not None
    return found


@pytest.mark.parametrize("stage", ["asked", "param", "tag"])
def test_of_two_copies_that_claim_at_once_one_goes_on(run: RunTracker, tmp_path: Path, client: Any, stage: str) -> None:
    """However far the other one is when the first one, which found the run unclaimed, goes on."""
    folders = [Path(shutil.copytree(run.folder, tmp_path / name)) for name in ("first", "second")]
    shutil.rmtree(run.folder)
    for folder, value in zip(folders, (0.5, 0.25), strict=True):
        write_identity(folder, claimed(folder, read_identity(folder)))
        journal = Journal(folder / JOURNAL)
        journal.append({"loss": value}, 2)
        journal.sync()
        journal.close()
    first, second = map(payload_of, folders)
    uri = str(first.identity.uri)

    def meanwhile() -> None:
        if stage == "asked":
            MlflowSink(client, uri).send([second])
        else:
            client.log_param(run.run_id, succession(None), second.identity.claims[-1])
        if stage == "tag":
            client.set_tag(run.run_id, CLAIM, second.identity.claims[-1])

    with pytest.raises(Refused, match="was resumed in another copy of its folder"):
        MlflowSink(Interleaved(client, meanwhile), uri).send([first])
    MlflowSink(client, uri).send([second])
    assert steps(client, run) == [(1, 1.0), (2, 0.25)]
    assert not any(map(is_succession, get_run(uri, run.run_id).params))


def test_a_copy_that_was_made_while_its_original_trains_ends_that_ones_sending(
    run: RunTracker, tmp_path: Path, client: Any
) -> None:
    write_identity(run.folder, claimed(run.folder, read_identity(run.folder)))
    (run.folder / "journal.sent").unlink()
    first = payload_of(run.folder)
    sink = MlflowSink(client, str(first.identity.uri))
    sink.send([first])
    copy = Path(shutil.copytree(run.folder, tmp_path / "copy"))
    write_identity(copy, claimed(copy, read_identity(copy)))
    MlflowSink(client, str(first.identity.uri)).send([payload_of(copy)])
    with pytest.raises(Refused, match="was resumed in another copy of its folder"):
        sink.send([first])


def test_a_process_that_died_amid_its_claim_is_succeeded_by_its_own_folder(
    run: RunTracker, tmp_path: Path, client: Any
) -> None:
    for _ in range(2):
        write_identity(run.folder, claimed(run.folder, read_identity(run.folder)))
    identity = read_identity(run.folder)
    client.log_param(run.run_id, succession(None), identity.claims[0])  # and then it died
    (run.folder / "journal.sent").unlink()
    MlflowSink(client, str(identity.uri)).send([payload_of(run.folder)])
    assert client.get_run(run.run_id).data.tags[CLAIM] == identity.claims[1]
