import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from reglab.core.errors import UserError
from reglab.tracking import TrackingSettings, open_run, reopen_run, send
from reglab.tracking.folder import read_identity
from reglab.tracking.payload import Payload, read_payload


def recorded(folder: Path) -> Payload:
    return read_payload(read_identity(folder), folder, 0)


def start(folder: Path, **given):
    settings = TrackingSettings.from_config({"name": "none"}, folder)
    arguments = {"config": {"a": 1}, "params": {"optimizer": {"lr": 0.1}}, "tags": {"reglab.seed": 1}, **given}
    return open_run(settings, name="run", folder=folder, **arguments)


def test_everything_stays_in_the_folder_and_no_store_is_made(tmp_path):
    tracker = start(tmp_path / "run", parent="the sweep")
    tracker.log({"loss": 1.0}, step=1)
    tracker.finish("FAILED")
    batch = recorded(tmp_path / "run")
    assert [(row.key, row.step, row.value) for row in batch.rows()] == [("loss", 1, 1.0)]
    assert batch.tags == {
        "reglab.seed": "1",
        "mlflow.parentRunId": "the sweep",
        "reglab.folder": str(tmp_path / "run"),
    }
    assert batch.status is not None
    assert batch.status[0] == "FAILED"
    assert json.loads((tmp_path / "run" / "params.json").read_text()) == {"optimizer.lr": "0.1"}
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text()) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_new_run_in_an_old_folder_starts_an_own_journal(tmp_path):
    first = start(tmp_path)
    first.log({"loss": 1.0}, step=1)
    first.finish()
    second = start(tmp_path)
    second.log({"loss": 2.0}, step=1)
    second.finish()
    assert [row.value for row in recorded(tmp_path).rows()] == [2.0]
    assert [row.value for row in recorded(tmp_path / "earlier-1").rows()] == [1.0]
    assert json.loads((tmp_path / "earlier-1" / "run.json").read_text())["run_id"] == first.run_id


def test_a_run_goes_on_in_its_folder(tmp_path):
    first = start(tmp_path)
    first.log({"loss": 1.0}, step=1)
    first.finish("KILLED")
    second = reopen_run(tmp_path)
    assert second.run_id == first.run_id
    second.log({"loss": 0.5}, step=2)
    second.finish()
    assert [row.value for row in recorded(tmp_path).rows()] == [1.0, 0.5]


def test_a_folder_without_a_run_or_store_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        reopen_run(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(UserError, match="cannot be read"):
        reopen_run(tmp_path)
    start(tmp_path / "run").finish()
    with pytest.raises(UserError, match="no store to send it to"):
        send(tmp_path / "run")


def test_neither_the_package_nor_a_local_run_imports_mlflow(tmp_path):
    script = (
        "import sys, pathlib; from reglab.tracking import TrackingSettings, open_run\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "settings = TrackingSettings.from_config({'name': 'none'}, folder)\n"
        "open_run(settings, name='run', folder=folder, config={}, params={}, tags={}).finish()\n"
        "print([name for name in ('mlflow', 'torch', 'pytorch_lightning') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", script, tmp_path], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "[]"
