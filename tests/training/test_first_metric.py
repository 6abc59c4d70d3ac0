"""What ``reglab train`` has not imported by its first row of metrics, so that the row
comes soon.
"""

import subprocess
import sys

from training.job_case import Case

_PROGRAM = """
import os, sys
from reglab.cli.command import main
from reglab.tracking.journal import Journal
append_row, leave = Journal.append_row, os._exit  # which raises while a run trains

def first(journal, layout, values, step, now):
    append_row(journal, layout, values, step, now)
    assert step == 0, step
    print(*sys.modules, flush=True)
    leave(9)

Journal.append_row = first
main(sys.argv[1:])
"""
_LATER = {"mlflow", "sqlalchemy", "alembic", "fastapi", "pyarrow", "jinja2", "sklearn", "pandas", "reglab.reports.html"}


def test_the_first_metric_waits_for_no_package_that_it_does_not_need(case: Case) -> None:
    """What Lightning and torchmetrics import (SciPy, matplotlib, torch._dynamo) comes with them in
    any case.
    """
    case.client.create_experiment("reglab")  # the store was used before
    overrides = [sys.executable, "-c", _PROGRAM, "train", "data=sparse_regression", "trainer.max_epochs=1"]
    done = subprocess.run(overrides, capture_output=True, text=True, cwd=case.folder)
    assert done.returncode == 9, done.stderr
    imported = set(done.stdout.split())
    assert {"torch", "pytorch_lightning", "torchmetrics"} <= imported
    assert not _LATER & imported
