"""Stores that a folder, a file or another store names: nothing is sent to them, and nothing there is changed."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from reglab.cli import command as cli
from reglab.cli.configured_store import name_given_stores
from reglab.core import secrets
from reglab.core.errors import UserError
from reglab.tracking import reopen_run, send, store_gate
from reglab.tracking.admin import dashboard
from reglab.tracking.folder import read_identity
from reglab.tracking.mlflow import read
from reglab.training import restore
from security.hostile_folders import change_identity
from security.listening_server import Listening, listening
from training.job_case import SMALL, close, config

SMALLEST = [*(word for word in SMALL if "max_epochs" not in word), "trainer.max_epochs=1"]
TOKEN = "sentinel-of-this-test"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listening]:
    """A stranger's server; and the user has a password for another one, and a token."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2-hunter2")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("A_TOKEN", TOKEN)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    with listening() as made, secrets.isolated():
        yield made


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, template: Path) -> Path:
    """A working folder with a run and a sweep, never changed."""
    folder = tmp_path_factory.mktemp("made")
    shutil.copy(template, folder / "reglab.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert cli.main(["train", *SMALLEST, "hydra.run.dir=runs/it"]) == 0
    close(folder)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder's own copy; the run is ``runs/it``."""
    work = tmp_path / "work"
    shutil.copytree(made, work)
    change_identity(work / "runs" / "it", uri=f"sqlite:///{work}/reglab.db", place=str(work / "runs" / "it"))
    monkeypatch.chdir(work)
    yield work
    close(work)


def commands(run: str) -> dict[str, list[str]]:
    return {
        "resume": ["resume", "--here", run, "trainer.max_epochs=2"],
        "report": ["report", run],
        "sync": ["sync", run],
    }


def said_by(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = cli.main(words)
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_nothing_is_sent_to_the_server_that_a_folder_names(
    folder: Path, server: Listening, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    change_identity(folder / "runs" / "it", uri=server.uri)
    (folder / "runs" / "it" / "journal.sent").write_text("0 0")
    for name, words in commands("runs/it").items():
        code, said = said_by(words, capsys)
        assert (code != 0, f"add --uri {server.uri}" in said) == (True, True), (name, said)
        assert "would get its data and your MLflow password" in said
    (folder / "runs" / "it" / "checkpoints" / "last.ckpt").unlink()
    run = folder / "runs" / "it"
    for use in (restore.load, reopen_run, send):
        with pytest.raises(store_gate.UnnamedStore, match="add --uri"):
            use(run)
    assert said_by(["clean", "--yes"], capsys)[0] == 0
    assert server.requests == []


def test_a_server_that_the_user_names_is_asked(
    folder: Path, server: Listening, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    change_identity(folder / "runs" / "it", uri=server.uri)
    code, said = said_by(["report", "--uri", server.uri, "runs/it"], capsys)
    assert code == 2
    assert "no run" in said
    asked = len(server.requests)
    assert asked > 0
    with store_gate.isolated():
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        said_by(["report", "runs/it"], capsys)
    assert len(server.requests) > asked


@pytest.mark.parametrize("answer", [True, False])
def test_a_person_is_asked_once(folder: Path, server: Listening, answer: bool) -> None:
    change_identity(folder / "runs" / "it", uri=server.uri)
    questions: list[str] = []

    def ask(question: str) -> bool:
        questions.append(question)
        return answer

    with store_gate.asking(ask):
        for _ in range(2):
            with pytest.raises(UserError, match="no run" if answer else "you have not named it"):
                read.find_run("unused", "runs/it")
    assert len(questions) == 1
    assert questions[0].endswith("Is that store yours?")
    assert bool(server.requests) is answer


def test_the_configuration_of_a_run_names_no_other_store_than_its_identity(
    folder: Path, server: Listening, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor does it send a token to it as a part of the address."""
    path = folder / "runs" / "it" / "config.yaml"
    for uri in (server.uri, f"{server.uri}/${{oc.env:A_TOKEN}}", f"{server.uri}/${{oc.env:${{which}}}}"):
        text = path.read_text().replace("uri: null", f"uri: {uri}")
        path.write_text(f"which: A_TOKEN\n{text}")
        code, said = said_by(commands("runs/it")["resume"], capsys)
        assert code == 2, said
        assert TOKEN not in said
        assert "Traceback" not in said
        path.write_text(text.replace(f"uri: {uri}", "uri: null"))
    assert server.requests == []


def experiment(folder: Path, text: str) -> list[str]:
    (folder / "theirs" / "experiment").mkdir(parents=True)
    (folder / "theirs" / "experiment" / "evil.yaml").write_text(f"# @package _global_\n{text}\n")
    return ["--config-dir", "theirs", "experiment=evil", *SMALLEST]


@pytest.mark.parametrize("flags", [[], ["-m"]])
def test_an_experiment_file_names_no_store(
    folder: Path, server: Listening, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = experiment(folder, f"tracking: {{uri: '{server.uri}'}}")
    code, said = said_by(["train", *flags, *words], capsys)
    assert code == 2
    assert f"a configuration file names the store {server.uri}" in said
    assert f"add tracking.uri={server.uri}" in said
    assert server.requests == []


def test_a_block_of_a_sweep_names_no_store(folder: Path, server: Listening, capsys: pytest.CaptureFixture[str]) -> None:
    words = experiment(folder, f"sweep: {{blocks: [{{seed: 1}}, {{tracking.uri: '{server.uri}'}}]}}")
    code, said = said_by(["train", "-m", *words], capsys)
    assert (code, f"add tracking.uri={server.uri}" in said) == (2, True), said
    assert server.requests == []


def test_the_overrides_of_a_received_sweep_name_no_store(
    folder: Path, server: Listening, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = folder / "runs" / "it"
    (sweep / "multirun.yaml").write_text(
        "hydra:\n  overrides: {hydra: [], task: ['data=wine', 'tracking.uri=" + server.uri + "']}\n"
        "  job: {config_name: train}\n  runtime: {config_sources: []}\n"
    )
    code, said = said_by(["resume", "--here", "runs/it"], capsys)
    assert code == 2
    assert f"the store {server.uri}" in said
    assert server.requests == []


def test_a_database_elsewhere_is_not_opened(
    folder: Path, server: Listening, capsys: pytest.CaptureFixture[str]
) -> None:
    other = folder.parent / "home" / "places.sqlite"
    other.parent.mkdir()
    with closing(sqlite3.connect(other)) as database:
        database.execute("CREATE TABLE bookmarks (url)")
        database.commit()
    before = other.read_bytes()
    change_identity(folder / "runs" / "it", uri=f"sqlite:///{other}")
    (folder / "runs" / "it" / "journal.sent").write_text("0 0")
    for words in commands("runs/it").values():
        code, said = said_by(words, capsys)
        assert (code != 0, f"add --uri sqlite:///{other}" in said) == (True, True), said
    code, said = said_by(["train", *experiment(folder, f"tracking: {{uri: 'sqlite:///{other}'}}")], capsys)
    assert (code, "which would be opened for writing" in said) == (2, True), said
    assert other.read_bytes() == before
    assert [path.name for path in other.parent.iterdir()] == [other.name]


def claim(folder: Path, uri: str) -> str:
    """Have the store that came with a run say that its artifacts are at ``uri``; return the run's id."""
    close(folder)
    run_id = read_identity(folder / "runs" / "it").run_id
    with closing(sqlite3.connect(folder / "reglab.db")) as store:
        store.execute("UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", (uri, run_id))
        store.execute("UPDATE experiments SET artifact_location = ?", (uri.removesuffix(f"/{run_id}/artifacts"),))
        store.commit()
    return run_id


def test_a_store_sends_no_artifact_to_a_folder_of_its_choice(
    folder: Path, server: Listening, capsys: pytest.CaptureFixture[str]
) -> None:
    home = folder.parent / "autostart"
    home.mkdir()
    claim(folder, home.as_uri())
    (folder / "runs" / "it" / "journal.sent").write_text("0 0")
    code, said = said_by(["sync", "runs/it"], capsys)
    assert (code, "which is no folder of artifacts" in said) == (1, True), said
    assert list(home.iterdir()) == []
    with pytest.raises(UserError, match="no folder of artifacts"):
        restore.load(read_identity(folder / "runs" / "it").run_id, uri=f"sqlite:///{folder}/reglab.db")


@pytest.mark.parametrize("scheme", ["http", "mlflow-artifacts"])
def test_a_store_sends_no_artifact_and_no_password_to_a_server_of_its_choice(
    folder: Path, server: Listening, capsys: pytest.CaptureFixture[str], scheme: str
) -> None:
    run_id = claim(folder, f"{scheme}{server.uri.removeprefix('http')}/x")
    (folder / "runs" / "it" / "journal.sent").write_text("0 0")
    code, said = said_by(["sync", "runs/it"], capsys)
    assert (code, "are kept at" in said) == (1, True), said
    for use in ("artifact_path", "copy_artifact"):
        record = read.get_run(f"sqlite:///{folder}/reglab.db", run_id)
        with pytest.raises(store_gate.UnnamedStore, match="are kept at"):
            getattr(read, use)(record, "checkpoints/last.ckpt", *([folder] if use == "copy_artifact" else []))
    assert server.requests == []


def test_no_folder_goes_that_a_server_names(
    folder: Path, server: Listening, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the ids in the folder and on the server are."""
    precious = folder.parent / "Documents" / "artifacts"
    precious.mkdir(parents=True)
    (precious / "thesis.tex").write_text("mine")
    change_identity(folder / "runs" / "it", uri=server.uri, run_id="Documents")
    info = {"run_id": "Documents", "experiment_id": "1", "artifact_uri": precious.as_uri(), "status": "FINISHED"}
    root = {"experiment_id": "1", "name": "e", "artifact_location": folder.parent.as_uri()}
    server.answers = {
        "experiments/search": {"experiments": [{**root, "lifecycle_stage": "active"}]},
        "runs/search": {"runs": [{"info": {**info, "lifecycle_stage": "deleted"}, "data": {}}]},
    }
    code, said = said_by(["clean", "--yes", "--uri", server.uri, "runs/it"], capsys)
    assert (code, bool(server.requests), "runs deleted in MLflow" in said) == (0, True, True), said
    assert (precious / "thesis.tex").read_text() == "mine"


@pytest.mark.parametrize("name", ["Documents", "f" * 32])
def test_no_folder_goes_that_a_received_store_names_outside_its_artifacts(
    folder: Path, server: Listening, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow import MlflowClient

    precious = folder.parent / name / "artifacts"
    precious.mkdir(parents=True)
    (precious / "thesis.tex").write_text("mine")
    run_id = claim(folder, precious.as_uri())
    MlflowClient(f"sqlite:///{folder}/reglab.db").delete_run(run_id)
    assert "Freed" in said_by(["clean", "--yes", "runs/it"], capsys)[1]
    assert (precious / "thesis.tex").read_text() == "mine"


ACTING = (
    "CREATE TRIGGER t AFTER INSERT ON metrics BEGIN DELETE FROM metrics; END",
    "CREATE TRIGGER t BEFORE UPDATE ON runs BEGIN UPDATE runs SET lifecycle_stage = 'deleted'; END",
    "CREATE VIEW v AS SELECT * FROM params",
)


@pytest.mark.parametrize("command", ACTING)
def test_a_store_that_acts_by_itself_is_left_alone(
    folder: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    close(folder)
    with closing(sqlite3.connect(folder / "reglab.db")) as store:
        store.execute(command)
        rows = store.execute("SELECT count(*) FROM metrics").fetchone()
        store.commit()
    (folder / "runs" / "it" / "journal.sent").write_text("0 0")
    for words in (["report", "runs/it"], ["sync"], ["train", *SMALLEST]):
        code, said = said_by(words, capsys)
        assert (code != 0, "which no store of MLflow has" in said) == (True, True), (words, said)
    with pytest.raises(UserError, match="which no store of MLflow has"):
        dashboard.serve(f"sqlite:///{folder}/reglab.db", run=lambda command, environment: pytest.fail("it was served"))
    with closing(sqlite3.connect(folder / "reglab.db")) as store:
        assert store.execute("SELECT count(*) FROM metrics").fetchone() == rows


@pytest.mark.parametrize("uri", ["s3://evil", "ftp://127.0.0.1:9", "gs://evil", "hdfs://evil"])
def test_a_store_sends_no_artifact_to_a_bucket_of_its_choice(
    folder: Path, uri: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = claim(folder, f"{uri}/{read_identity(folder / 'runs' / 'it').run_id}/artifacts")
    (folder / "runs" / "it" / "journal.sent").write_text("0 0")
    code, said = said_by(["sync", "runs/it"], capsys)
    assert (code, f"If it is yours, set MLFLOW_DEFAULT_ARTIFACT_ROOT={uri}" in said) == (1, True), said
    store = f"sqlite:///{folder}/reglab.db"
    with pytest.raises(store_gate.UnnamedStore, match="are kept at"):
        restore.load(run_id, uri=store)
    monkeypatch.setenv("MLFLOW_DEFAULT_ARTIFACT_ROOT", f"{uri}/root")
    store_gate.check_artifact_store(f"{uri}/{run_id}/artifacts", store)


def test_a_bucket_that_the_command_line_names_is_the_users(folder: Path) -> None:
    composed = config("tracking.artifacts=s3://mine/shelf")
    name_given_stores(composed, ["tracking.artifacts=s3://mine/shelf"])
    store_gate.check_artifact_store("s3://mine/shelf/a/artifacts", f"sqlite:///{folder}/reglab.db")
