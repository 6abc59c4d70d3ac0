"""Registered models: MLflow's own loader and server give the numbers of ``reglab.predictor``."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
from contextlib import chdir
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

import reglab
from inference.conftest import NEW, Trained
from reglab.cli.command import main

ROWS = NEW.drop(columns="id")


@pytest.fixture(scope="module")
def registered(stored: Trained) -> Trained:
    elsewhere: Any = f"sqlite:///{stored.folder / 'elsewhere.db'}"
    mlflow.set_tracking_uri(elsewhere)  # by the program, for its own runs
    try:
        with chdir(stored.folder):
            assert main(["register", str(stored.run), "name=churn", "alias=champion"]) == 0
        assert mlflow.get_tracking_uri() == elsewhere
    finally:
        elsewhere = None
        mlflow.set_tracking_uri(elsewhere)
    return stored


@pytest.fixture(autouse=True)
def tracked(registered: Trained, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(registered.folder)
    uri = f"sqlite:///{registered.folder / 'reglab.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri


def as_json(rows: pd.DataFrame) -> str:
    return json.dumps({"dataframe_split": json.loads(rows.to_json(orient="split", index=False))})


def test_the_flavour_of_mlflow_takes_raw_rows(registered: Trained) -> None:
    wanted = reglab.predictor(registered.run).predict(ROWS)
    model = mlflow.pyfunc.load_model("models:/churn@champion")
    pd.testing.assert_frame_equal(model.predict(ROWS), wanted)
    columns = {spec["name"]: spec["type"] for spec in model.metadata.signature.inputs.to_dict()}
    texts, others = dict.fromkeys(("city", "plan"), "string"), dict.fromkeys(("member", "joined"), "any")
    assert columns == {"age": "double", "income": "double", **texts, **others}
    assert model.metadata.signature.outputs.input_names() == ["prediction", "probability_no", "probability_yes"]
    example = model.input_example
    assert len(model.predict(example)) == 1


def test_what_serves_answers_the_same_numbers(registered: Trained) -> None:
    """By the function that ``mlflow models serve`` calls for a request."""
    from mlflow.pyfunc.scoring_server import invocations

    model = mlflow.pyfunc.load_model("models:/churn@champion")
    answer = invocations(as_json(ROWS), "application/json", model, model.metadata.get_input_schema())
    assert answer.status == 200, answer.response
    found = pd.DataFrame(json.loads(answer.response)["predictions"])
    pd.testing.assert_frame_equal(found, reglab.predictor(registered.run).predict(ROWS), check_dtype=False, atol=1e-6)


def test_it_is_linked_to_its_run_its_data_and_its_metrics(registered: Trained, tracked: str) -> None:
    client = MlflowClient(tracked)
    version = client.get_model_version_by_alias("churn", "champion")
    run = client.get_run(version.run_id)
    (output,) = run.outputs.model_outputs
    model = client.get_logged_model(output.model_id)
    assert (str(model.status), model.source_run_id) == ("READY", run.info.run_id)
    assert version.source == f"models:/{model.model_id}"
    linked = {metric.key: metric for metric in model.metrics}
    assert linked["final/val/loss"].value == run.data.metrics["final/val/loss"]
    (val,) = [each.dataset for each in run.inputs.dataset_inputs if each.tags[0].value == "val"]
    assert (linked["final/val/loss"].dataset_name, linked["final/val/loss"].dataset_digest) == (val.name, val.digest)
    assert len(client.get_metric_history(run.info.run_id, "final/val/loss")) == 1


def test_a_second_time_nothing_is_made_twice(registered: Trained, tracked: str, capsys: Any) -> None:
    assert main(["register", str(registered.run), "name=churn", "alias=next"]) == 0
    assert "churn version 1: the model of l1" in capsys.readouterr().out
    client = MlflowClient(tracked)
    assert len(client.search_model_versions("name = 'churn'")) == 1
    assert int(client.get_model_version_by_alias("churn", "next").version) == 1
    run = client.get_model_version_by_alias("churn", "next").run_id
    client.log_metric(run, "final/epoch", 99, step=99)  # as if it was trained longer
    assert main(["register", str(registered.run), "name=churn", "alias=next"]) == 0
    assert int(client.get_model_version_by_alias("churn", "next").version) == 2
    assert main(["register", str(registered.run)]) == 2
    assert "give the name under which the model is registered" in capsys.readouterr().err


def test_no_pickle_is_in_it(registered: Trained) -> None:
    files = [path.name for path in registered.folder.glob("mlartifacts/models/*/artifacts/**/*") if path.is_file()]
    assert {"MLmodel", "model.ckpt", "preprocessing.json", "program.pt2", "weights.pt"} <= set(files)
    assert not [name for name in files if name.endswith((".pkl", ".pickle"))]


@pytest.mark.long
def test_mlflows_server_answers_the_same_numbers(registered: Trained, tmp_path: Path) -> None:
    import requests
    from urllib3.util import Retry

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = tmp_path / "uvicorn"  # that of this Python, whatever is in PATH
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m uvicorn "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    words = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/churn@champion", "-p", str(port)]
    words += ["--env-manager", "local", "-h", "127.0.0.1"]
    server = subprocess.Popen(words, env=environment, start_new_session=True)
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    try:
        session = requests.Session()
        patient = Retry(120, connect=120, backoff_factor=1, backoff_max=1)
        session.mount("http://", requests.adapters.HTTPAdapter(max_retries=patient))
        kind = {"Content-Type": "application/json"}
        answer = session.post(f"http://127.0.0.1:{port}/invocations", data=as_json(ROWS), headers=kind)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()
    found = pd.DataFrame(answer.json()["predictions"])
    wanted = reglab.predictor(registered.run).predict(ROWS)
    assert found["prediction"].tolist() == wanted["prediction"].tolist()
    np.testing.assert_allclose(found["probability_yes"], wanted["probability_yes"], atol=1e-6)
