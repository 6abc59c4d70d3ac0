import sqlite3
from contextlib import closing

import pytest
from mlflow import MlflowClient

import forked
from reglab.core.errors import UserError
from reglab.tracking import TrackingSettings
from reglab.tracking.mlflow.store import connect, experiment

# MLflow is imported once; the three processes start where nothing is open yet, and meet at a store
# that is not there.
WRITERS = """
import multiprocessing, pathlib, sys
from reglab.tracking import TrackingSettings, open_run
from reglab.tracking.mlflow import runs as mlflow_run

def write(folder, worker):
    settings = TrackingSettings.from_config({"experiment": "together"}, folder)
    for job in range(4):
        name = f"{worker}-{job}"
        given = dict(config={}, params={"seed": job}, tags={"worker": worker})
        tracker = open_run(settings, name=name, folder=folder / name, **given)
        for step in range(50):
            tracker.log({f"key-{key}": step + key / 10 for key in range(20)}, step)
            if step % 10 == 0:
                assert tracker.flush()
        tracker.finish()

start = multiprocessing.get_context("fork").Process
writers = [start(target=write, args=(pathlib.Path(sys.argv[1]), worker)) for worker in range(3)]
for writer in writers: writer.start()
for writer in writers: writer.join()
sys.exit(any(writer.exitcode for writer in writers))
"""


def test_three_processes_on_a_fresh_store_lose_and_double_nothing(tmp_path):
    assert forked.run(["-c", WRITERS, tmp_path], cwd=tmp_path).returncode == 0
    with sqlite3.connect(tmp_path / "reglab.db") as connection:
        runs = dict(connection.execute("SELECT name, status FROM runs"))
        rows = connection.execute(
            "SELECT name, key, metrics.step, value FROM metrics JOIN runs USING (run_uuid)"
        ).fetchall()
        latest = connection.execute("SELECT name, key, value FROM latest_metrics JOIN runs USING (run_uuid)").fetchall()
        experiments = [name for (name,) in connection.execute("SELECT name FROM experiments ORDER BY 1")]
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    connection.close()
    names = [f"{worker}-{job}" for worker in range(3) for job in range(4)]
    assert runs == dict.fromkeys(names, "FINISHED")
    expected = [(n, f"key-{k}", s, s + k / 10) for n in names for k in range(20) for s in range(50)]
    assert sorted(rows) == sorted(expected)
    assert sorted(latest) == sorted((n, f"key-{k}", 49 + k / 10) for n in names for k in range(20))
    assert experiments == ["Default", "together"]
    assert mode == "wal"
    assert not (tmp_path / "mlruns").exists()


def test_the_experiment_is_made_once_with_a_note(settings):
    client = connect(settings.uri)
    first = experiment(client, settings).experiment_id
    made = experiment(client, settings)
    assert made.experiment_id == first
    assert made.name == "study"
    assert made.artifact_location == settings.artifacts
    assert "above 0 means overfitting" in made.tags["mlflow.note.content"]


def test_a_deleted_experiment_says_what_to_do(settings):
    client = connect(settings.uri)
    client.delete_experiment(experiment(client, settings).experiment_id)
    with pytest.raises(UserError, match="'study' was deleted in MLflow: restore it"):
        experiment(client, settings)


def test_reading_makes_no_store(tmp_path):
    with pytest.raises(UserError, match="go to the folder where runs were made"):
        connect(f"sqlite:///{tmp_path}/absent.db", create=False)
    assert not (tmp_path / "absent.db").exists()


@pytest.mark.parametrize("create", [True, False])
def test_another_file_is_left_alone(tmp_path, create):
    (tmp_path / "notes.txt").write_text("a long text, and no data base at all")
    with pytest.raises(UserError, match="not a SQLite file"):
        connect(f"sqlite:///{tmp_path}/notes.txt", create)
    assert (tmp_path / "notes.txt").read_text() == "a long text, and no data base at all"


def test_a_place_that_cannot_hold_a_store_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"store .*/file/reglab\.db"):
        connect(f"sqlite:///{tmp_path}/file/reglab.db")


def test_a_store_of_another_mlflow_is_named(store, settings):
    with sqlite3.connect(store) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'abc'")
    connection.close()
    with pytest.raises(UserError, match="another version of MLflow"):
        connect(settings.uri)


def test_a_dead_server_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    settings = TrackingSettings.from_config({"uri": "http://me:secret@127.0.0.1:9"}, tmp_path)
    with pytest.raises(
        UserError, match=r"cannot reach tracking\.uri=http://127\.0\.0\.1:9 .*start the server"
    ) as raised:
        experiment(MlflowClient(tracking_uri=settings.uri), settings)
    assert "secret" not in str(raised.value)


def test_the_database_of_another_program_is_not_changed(tmp_path):
    path = tmp_path / "places.sqlite"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE bookmarks (url)")
        database.commit()
    before = path.read_bytes()
    for create in (True, False):
        with pytest.raises(UserError, match="the database of another program"):
            connect(f"sqlite:///{path}", create)
    assert path.read_bytes() == before


@pytest.mark.parametrize("create", [True, False])
def test_a_folder_in_the_place_of_the_store_is_named(tmp_path, create):
    (tmp_path / "reglab.db").mkdir()
    with pytest.raises(UserError, match=r"reglab\.db is a folder: remove it"):
        connect(f"sqlite:///{tmp_path / 'reglab.db'}", create)


def test_a_damaged_store_is_made_again_by_sync(store, settings):
    with store.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (store.stat().st_size - 4096))
    with pytest.raises(UserError, match=r"is damaged .*reglab sync --rebuild"):
        connect(settings.uri)
