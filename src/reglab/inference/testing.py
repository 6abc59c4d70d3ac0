"""Measure a run's model on its test part again, or on other rows that have targets."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reglab.analysis.formatting import plural
from reglab.config.fingerprint import REMOVED_KEYS
from reglab.core.errors import UserError
from reglab.data.queries import queries_from
from reglab.inference.find import chosen_run, record_of
from reglab.inference.judged_rows import judged_rows
from reglab.inference.predictor import Predictor
from reglab.measures import measure_settings, one_part, side, to_floats
from reglab.measures.evaluate import evaluation_of
from reglab.tasks.positions import IGNORED
from reglab.training.describe import resolved
from reglab.training.restore import touches


def test_part_again(run: str | Path, uri: str | None) -> tuple[dict[str, float], list[str]]:
    """Return what a run's model reaches on its test part, which is recorded with the run, and what
    is to be told about that.

    Args:
        run: As for ``reglab.predictor``.
        uri: Of the store.

    Raises:
        UserError: If there is no such run, or its data changed.
    """
    from reglab.tracking.mlflow.read import test_touches
    from reglab.training.lightning.testing import test_run

    record = record_of(chosen_run(run, uri), uri)
    before = touches(record)
    others = test_touches(record.uri, [record.run_id], "")
    told = []
    if before:
        told.append(f"its test part was measured {plural(before, 'time')} before")
    if others:
        told.append(f"{plural(len(others), 'other run')} looked at this test part: {', '.join(dict.fromkeys(others))}")
    if told:
        told.append("what was chosen after such a look is no longer judged by untouched rows")
    return test_run(record.uri, record.run_id), told


def other_rows(
    predictor: Predictor, config: Mapping[str, Any], path: Path, targets_path: Path | None = None
) -> tuple[dict[str, float], list[str]]:
    """Return what a model reaches on the rows of a file that have a target, and what is to be told.

    Args:
        predictor: Of the run.
        config: Of its job, which says what is measured.
        path: Of a table, series, ``.npy`` files or a folder of images.
        targets_path: Of the targets of a ``.npy`` file.

    Raises:
        UserError: For a file without the target.
    """
    outputs, targets, queries, rows = [], [], [], 0
    for raw, found in judged_rows(predictor, path, targets_path):
        made = predictor.outputs(raw)
        if predictor.task.reads == "queries":
            queries.append(predictor.query_numbers(raw)[found.known])
        outputs.append(made[torch.from_numpy(found.known)])
        targets.append(found.values)
        rows += len(made)
    known = sum(map(len, targets))
    if not known:
        raise UserError(f"data.path={path} has no row whose target the model knows: use reglab predict")
    recorded = resolved(config, "measure") or {}
    settings = measure_settings({k: v for k, v in recorded.items() if k not in REMOVED_KEYS})
    task, scale = predictor.task, predictor.preprocessing.target_scale
    answered, wanted = torch.cat(outputs), torch.cat(targets)
    if queries:
        padding = queries_from(np.unique(np.concatenate(queries), return_inverse=True)[1])
        answered, wanted = padding.padded(answered, 0.0), padding.padded(wanted, float(IGNORED))
    measured = side(
        evaluation_of(answered, wanted, task),
        task,
        units=torch.tensor(scale, dtype=torch.float64) if scale else None,
    )
    told = predictor.remarks.lines()
    if resolved(config, "loss"):
        told.append(f"the loss is that of the task {task.name}, not the run's own: loss=...")
    if known < rows:
        told.append(f"{rows - known} of {rows} rows have no target that training knew: left out")
    return to_floats(one_part("test", measured, task, settings.level, settings.wanted)), told
