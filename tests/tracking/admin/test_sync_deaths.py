"""Death anywhere while runs are made, sent or set aside: ``reglab sync`` finishes it.

Nothing is lost or doubled.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reglab.tracking.admin.sync import sync
from tracking.admin.dying import CODE, STEPS
from tracking.tables import unknown_tables

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes that die are forked")

Die = Callable[..., int]
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def die() -> Iterator[Die]:
    """Do something in a process that dies at a step of it, and return its exit code."""
    words = [sys.executable, str(HERE / "dying.py")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def ask(action: str, folder: Path, step: str = "", when: str = "", call: int = 1) -> int:
            asked = {"action": action, "folder": str(folder), "step": step, "when": when, "call": call}
            process.stdin.write(json.dumps(asked) + "\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        yield ask
        process.stdin.close()


@pytest.fixture
def place(template: Path, tmp_path: Path) -> Iterator[Path]:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    shutil.copy(template, tmp_path / "reglab.db")
    yield tmp_path
    SqlAlchemyStore._get_or_create_engine(f"sqlite:///{tmp_path}/reglab.db").dispose()


def runs(folder: Path) -> dict[str, Any]:
    """The runs of the store, by name; two of one name fail."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/reglab.db")
    experiment = client.get_experiment_by_name("study")
    found = client.search_runs([experiment.experiment_id]) if experiment else []
    assert len({run.info.run_name for run in found}) == len(found)
    return {run.info.run_name: (run, client.get_metric_history(run.info.run_id, "loss")) for run in found}


def silent(text: str) -> None: ...


def whole(folder: Path) -> bool:
    """Sync twice, and return whether the sweep and its runs are in the store, once, as they were recorded."""
    for _ in range(2):
        assert sync([folder / "runs"], say=silent).complete
    found = runs(folder)
    sweep = found["sweep"][0].info.run_id
    for number, status in enumerate(("FINISHED", "FAILED")):
        run, rows = found[f"job {number}"]
        assert run.info.status == status
        assert run.data.tags["mlflow.parentRunId"] == run.data.params["sweep.parent"] == sweep
        assert len(run.inputs.dataset_inputs) == 3
        assert (Path(run.info.artifact_uri.removeprefix("file://")) / "config.yaml").exists()
        assert [(row.step, row.value) for row in rows] == [(step, 1 / (1 + step)) for step in range(STEPS)]
    return set(found) == {"sweep", "job 0", "job 1"} and found["sweep"][0].info.status == "FINISHED"


SYNCING = [
    *((step, when, True) for step in ("mlflow.sql_create.insert_runs", "mlflow.sync.write_identity")
      for when in ("before", "after")),
    *((f"MlflowClient.{step}", when, False) for step in ("create_run", "log_batch", "log_inputs")
      for when in ("before", "after")),
    *(("mlflow.sync.write_identity", when, False) for when in ("before", "after")),
    *((step, when, True) for step in ("mlflow.sql.write", "sender.write_position", "mlflow.sql_sink.link_or_copy")
      for when in ("before", "after")),
]  # fmt: skip


@pytest.mark.parametrize("step, when, known", SYNCING)
def test_a_sync_that_dies_is_finished_by_the_next(die: Die, place: Path, step: str, when: str, known: bool) -> None:
    assert die("offline", place) == 0
    with unknown_tables(place / "reglab.db", not known):
        assert die("sync", place, step, when) == CODE
        assert whole(place)


OPENING = [
    *(("opening.write_start", when, True) for when in ("before", "after")),
    *((step, when, known) for step in ("opening.write_identity", "opening.mark_created") for when in ("before", "after")
      for known in (True, False)),
    *(("mlflow.sql_create.insert_runs", when, True) for when in ("before", "after")),
    *((f"MlflowClient.{step}", when, False) for step in ("create_run", "log_batch") for when in ("before", "after")),
    *((step, "after", True) for step in ("opening.write_config", "opening._tracker")),
]  # fmt: skip


@pytest.mark.parametrize("step, when, known", OPENING)
def test_a_run_that_dies_while_it_is_opened_is_not_running_for_ever(
    die: Die, place: Path, step: str, when: str, known: bool
) -> None:
    with unknown_tables(place / "reglab.db", not known):
        # Of the sweep's runs; it itself is there.
        assert die("online", place, step, when, call=2) == CODE
        before = len(runs(place))
        for _ in range(2):
            assert sync([place / "runs"], say=silent).complete
    found = runs(place)
    assert len(found) == before  # a run that never began is forgotten
    assert {run.info.status for run, _ in found.values()} == {"KILLED"}
    assert {run.data.tags["reglab.message"] for run, _ in found.values()} == {"its process was gone"}
    assert {run.data.params.get("seed", "1") for run, _ in found.values()} == {"1"}
    assert len(list(place.glob("runs/**/run.json"))) == len(found)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("rename", [1, 2, 3, 4])
def test_a_run_that_is_half_set_aside_is_delivered(die: Die, place: Path, rename: int, again: bool) -> None:
    assert die("offline", place) == 0
    assert die("again", place, "Path.rename", "before", call=rename) == CODE
    if again:
        assert die("again", place) == 0
        (place / "runs" / "0").rename(place / "0")
        (place / "0" / "earlier-1").rename(place / "runs" / "0")
    assert whole(place)
