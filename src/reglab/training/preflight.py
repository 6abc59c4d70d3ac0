"""Checks of a sweep's jobs before training: whether data load, and ineffective hyperparameters."""

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from lightning_utilities.core.rank_zero import rank_zero_only

from reglab import data
from reglab.analysis.table_report import TableReport
from reglab.config.fingerprint import hash_config
from reglab.core.errors import UserError
from reglab.data.table_description import describe_table
from reglab.regularizers import Cocktail
from reglab.training.describe import build_cocktail
from reglab.training.experiment import Experiment
from reglab.training.length import length_of
from reglab.training.loader import Steps
from reglab.training.own_callbacks import build_callbacks
from reglab.training.recipe import Recipe

_log = logging.getLogger(__name__)

LOADED = 8  # distinct data sets that are tried; further ones are left to their jobs
# What chooses among rows, or disturbs them, but can be of no harm in one data set and none in
# another.
_SAME_ROWS = ("split_seed", "fold", "replica", "seed", "label_noise", "shape")


class _Rows(NamedTuple):
    train: int
    task: str
    batch_size: int | None
    table: TableReport | None


class Findings(NamedTuple):
    """What the checks of a sweep's jobs found.

    Args:
        faults: What is wrong, and with which jobs, by number.
        advice: What their user should know, likewise.
        tables: The reports of their tables, by these reports' text, likewise.
    """

    faults: dict[str, list[int]]
    advice: dict[str, list[int]]
    tables: dict[str, tuple[TableReport, list[int]]]


def check_jobs(jobs: Mapping[int, Mapping[str, Any]]) -> Findings:
    """Load each distinct data set of ``jobs`` (by number: resolved configs), and ask their
    regularizers for advice.
    """
    findings, rows = Findings({}, {}, {}), {}
    loaded_by_node: dict[str, _Rows | str | None] = {}
    for number, job in jobs.items():
        node = dict(job.get("data") or {})
        try:
            data.check(node)
            build_callbacks(job.get("callbacks"), own_loop=False)
        except UserError as error:
            findings.faults.setdefault(str(error), []).append(number)
            continue
        key = hash_config({key: value for key, value in node.items() if key not in _SAME_ROWS})
        if key not in loaded_by_node:
            loaded_by_node[key] = _load(node) if len(loaded_by_node) < LOADED else None
        loaded = loaded_by_node[key]
        if isinstance(loaded, str):
            findings.faults.setdefault(loaded, []).append(number)
        elif loaded is not None:
            rows[number] = loaded
    for number, loaded in rows.items():
        if loaded.table:
            findings.tables.setdefault(loaded.table.text(), (loaded.table, []))[1].append(number)
        for sentence in _advice(jobs[number], loaded):
            findings.advice.setdefault(sentence, []).append(number)
    return findings


def advice(cocktail: Cocktail, rows: int, recipe: Recipe, accumulate: int = 1) -> list[str]:
    """Return a warning for each hyperparameter without effect in a job of ``rows`` training rows.

    Args:
        cocktail: The regularizers.
        rows: Number of training rows.
        recipe: Batch size and epochs.
        accumulate: Microbatches of a step.

    Returns:
        One sentence for each ineffective hyperparameter.
    """
    steps = Steps(rows, recipe.batch_size * accumulate, 0, recipe, lambda: 0).total
    sentences = ((name, member.advice(steps)) for name, member in cocktail.named_regularizers())
    return [f"regularizer.{name}: {sentence}" for name, sentence in sentences if sentence]


def table_report(node: Mapping[str, Any]) -> TableReport | None:
    """Return the report of a job's table; None where its data is none, or cannot be described."""
    try:
        return describe_table(node)
    except Exception:  # noqa: BLE001 - no remark is worth a run
        _log.info("the table cannot be described", exc_info=True)
        return None


def log_advice(experiment: Experiment) -> None:
    """Log the advice for a job that belongs to no sweep."""
    if not getattr(rank_zero_only, "rank", 0):
        accumulate = int(experiment.trainer.get("accumulate_grad_batches") or 1)
        for line in advice(experiment.cocktail, len(experiment.data.train), experiment.recipe, accumulate):
            _log.warning("%s", line)


def _load(node: Mapping[str, Any]) -> "_Rows | str":
    """Return the data set's size and task, or an error message."""
    try:
        loaded = data.load(node)
        return _Rows(len(loaded.train), loaded.task, loaded.batch_size, table_report(node))
    except UserError as error:
        return str(error)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a reader raises, the jobs would too
        return f"data={node.get('name', 'lightning')} cannot be loaded ({type(error).__name__}: {error})"


def _advice(job: Mapping[str, Any], loaded: "_Rows") -> list[str]:
    """Return the advice for a job; none where the job is invalid, which is reported elsewhere."""
    trainer = job.get("trainer") or {}
    try:
        cocktail = build_cocktail(job["regularizer"], 0, loaded.task)
        batch_size = loaded.batch_size or int(job["data"]["batch_size"])
        recipe = Recipe({}, {}, None, batch_size, 1, *length_of(trainer, loaded.train, batch_size))
        return advice(cocktail, loaded.train, recipe, int(trainer.get("accumulate_grad_batches") or 1))
    except Exception:  # noqa: BLE001 - reported where the job is built; a user's class may raise anything
        return []
