"""Find what predicts: the model of a run, or of the setting that a sweep chose, and how its inputs
are made.
"""

import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import nn

from reglab import data
from reglab.core.errors import UserError
from reglab.data.assemble import SOURCES
from reglab.data.preprocessing import FILE, Preprocessing, read_preprocessing
from reglab.inference.predictor import Predictor
from reglab.tracking.folder import IDENTITY, read_identity
from reglab.tracking.run_state import DIGEST, read_state
from reglab.training.describe import resolved
from reglab.training.finalize import load_evaluation_weights
from reglab.training.restore import checkpoint_of, restore

if TYPE_CHECKING:
    from reglab.tracking.run_record import RunRecord

_log = logging.getLogger(__name__)


def predictor(
    run: str | Path, weights: str | None = None, uri: str | None = None, model: nn.Module | None = None
) -> Predictor:
    """Return what predicts raw rows by the trained model of a run, on the CPU.

    Args:
        run: A run's id, its name (the newest of that name) or its folder; or a sweep's, which
            stands for the first run of the setting that it chose.
        weights: ``last``, ``best``, or None for those that the run stands for.
        uri: Where runs are kept; None: MLFLOW_TRACKING_URI, or ``reglab.db`` in the working folder.
        model: A new instance of the model's class, needed only where it was not built from a
            config.

    Returns:
        With a method ``predict``.

    Raises:
        UserError: If there is no such run, or nothing tells how its inputs were made.
    """
    return found(run, weights, uri, model).predictor


class Found(NamedTuple):
    """The model of a run.

    Args:
        run: As ``predictor`` takes it, of one run.
        checkpoint: Its file.
        predictor: Of raw rows.
        config: Of its job.
    """

    run: str | Path
    checkpoint: Path
    predictor: Predictor
    config: Mapping[str, Any]


def found(run: str | Path, weights: str | None, uri: str | None, model: nn.Module | None = None) -> Found:
    """Return the model of a run with where it is; see ``predictor``."""
    run = chosen_run(run, uri)
    path = checkpoint_of(run, weights, uri)
    restored = restore(path, model)
    load_evaluation_weights(restored.model, restored.cocktail)
    preprocessing = _preprocessing(run, path, uri, restored.description)
    wanted = restored.description.get("input_shape")
    if wanted is not None and list(preprocessing.shape) != list(wanted):
        raise UserError(
            f"the {FILE} of the run {run} is not that of its model: put it back from a copy, or train again"
        )
    return Found(run, path, Predictor(restored.model, preprocessing), restored.description["config"])


def chosen_run(run: str | Path, uri: str | None) -> str | Path:
    """Return the run that ``run`` stands for: itself, or of a sweep the first of its choice."""
    of_one = (Path(run) / IDENTITY).is_file() and (Path(run) / "checkpoints").is_dir()
    if of_one or str(run).endswith(".ckpt"):
        return run
    record = record_of(run, uri)
    if record.tags.get("reglab.kind") != "sweep":
        return run
    from reglab.reports.collect import collect  # late: mlflow

    chosen = collect(record.uri, record.run_id).choose().chosen
    _log.warning("the sweep %s chose %s: its first run is taken", record.name, chosen.label)
    return chosen.trials[0].run_id


def record_of(run: str | Path, uri: str | None) -> "RunRecord":
    """Return the record of a run in its store.

    Raises:
        UserError: If there is none.
    """
    from reglab.tracking.mlflow.read import find_run
    from reglab.tracking.settings import absolute_uri
    from reglab.tracking.store_gate import name_store

    if (Path(run) / IDENTITY).is_file() and read_identity(Path(run)).uri is None:
        raise UserError(
            f"the run in {run} is in no store (tracking=none), where models are registered and looks at the test part "
            "are counted: train with tracking=mlflow, or give reglab test other rows, data.path=FILE"
        )
    store = absolute_uri(uri, Path.cwd())
    if uri is not None:
        name_store(store)
    return find_run(store, run)


def _preprocessing(run: str | Path, checkpoint: Path, uri: str | None, description: Mapping[str, Any]) -> Preprocessing:
    """Return how inputs are made: what lies with the run, or, where nothing does, what its data tell
    if they are those that it was trained on.
    """
    beside = checkpoint.parent.parent / FILE
    if beside.is_file():
        return read_preprocessing(beside.read_text(encoding="utf-8"), beside)
    digest = None
    if (state := read_state(Path(run)) if Path(run).is_dir() else None) is not None:
        digest = state.tags.get(DIGEST)
    elif not str(run).endswith(".ckpt"):
        record = record_of(run, uri)
        digest = record.tags.get(DIGEST)
        with suppress(UserError):
            from reglab.tracking.mlflow.read import artifact_path

            path = artifact_path(record, FILE)
            return read_preprocessing(path.read_text(encoding="utf-8"), path)
    return _rebuilt(run, digest, description)


def _rebuilt(run: str | Path, digest: str | None, description: Mapping[str, Any]) -> Preprocessing:
    node = resolved(description["config"], "data") or {}
    if list(node) == ["name"] or node.get("name") not in SOURCES:  # of reglab.fit; of a LightningDataModule
        raise UserError(
            f"the run {run} keeps no {FILE}: its inputs were made by code of yours. Give such inputs to the model, "
            "reglab.load(RUN)"
        )
    loaded = data.load(node)
    if digest is None or loaded.digest != digest or loaded.preprocessing is None:
        raise UserError(
            f"the run {run} keeps no {FILE}, as it was trained by an earlier version or did not finish, and its data "
            "changed since: restore them, or train again"
        )
    return loaded.preprocessing
