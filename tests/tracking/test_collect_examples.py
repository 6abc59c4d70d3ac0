"""The losses by example of a sweep's runs, read back through MLflow's own client."""

from dataclasses import replace

import numpy as np
import pytest

from reglab.analysis.per_example_file import FILE, Examples
from reglab.core.errors import UserError
from reglab.reports.per_example import collect_examples
from reglab.tracking import open_sweep
from reglab.tracking.mlflow import read


def examples(first: float) -> Examples:
    rows, losses = np.arange(3), np.array([first, 1.0, 2.0], np.float32)
    return Examples(rows, losses, losses, rows, losses, losses)


@pytest.fixture
def records(settings, start, tmp_path):
    """A sweep's runs: one of an earlier version, two with losses by example, and one whose file is damaged."""
    parent = open_sweep(settings, name="sweep", folder=tmp_path / "sweep", params={}, tags={})
    for number in range(4):
        run = start(f"run-{number}", parent=parent.run_id)
        if number:
            examples(number).write(run.folder / FILE)
            if number == 3:
                (run.folder / FILE).write_bytes(b"PK damaged")
            run.artifact(run.folder / FILE)
        run.finish()
    parent.finish()
    return read.sweep_runs(settings.uri, parent.run_id)


@pytest.mark.parametrize("here", [True, False])
def test_runs_give_their_losses_and_those_without_are_left_out(records, caplog, here):
    if not here:  # they come through MLflow's client
        records = [replace(record, artifact_uri="mlflow-artifacts:/1") for record in records]
    found = collect_examples(records)
    assert list(found) == [record.run_id for record in records[1:3]]
    assert [float(each.val_loss[0]) for each in found.values()] == [1.0, 2.0]
    (told,) = [entry.getMessage() for entry in caplog.records if entry.name.startswith("reglab.reports")]
    assert "is not a readable file of per-example losses" in told


def test_a_store_that_does_not_answer_is_told(records):
    away = [replace(record, artifact_uri="mlflow-artifacts:/1", uri="sqlite:////not/there.db") for record in records]
    with pytest.raises(UserError):
        collect_examples(away)
