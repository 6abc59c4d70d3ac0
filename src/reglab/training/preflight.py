"""What can be known of a sweep's jobs before any trains: whether their data can be loaded, and idle numbers."""

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from lightning_utilities.core.rank_zero import rank_zero_only

from reglab import data
from reglab.config.fingerprint import hash_config
from reglab.config.trust import trust_config
from reglab.core.errors import UserError
from reglab.regularizers import Cocktail
from reglab.training.describe import build_cocktail
from reglab.training.experiment import Experiment
from reglab.training.loader import Steps
from reglab.training.recipe import Recipe

_log = logging.getLogger(__name__)

LOADED = 8  # distinct data sets that are tried; further ones are left to their jobs
# What chooses among rows, or disturbs them, but can be of no harm in one data set and none in another.
_SAME_ROWS = ("split_seed", "fold", "replica", "seed", "label_noise", "shape")


class _Rows(NamedTuple):
    train: int
    task: str


class Seen(NamedTuple):
    """faults: what is wrong, and with which jobs, by number. advice: what their user should know, likewise."""

    faults: dict[str, list[int]]
    advice: dict[str, list[int]]


def look(jobs: Mapping[int, Mapping[str, Any]]) -> Seen:
    """Load each distinct data set of ``jobs`` (by number: resolved configs), and ask their regularizers for advice."""
    seen, rows = Seen({}, {}), {}
    found: dict[str, _Rows | str | None] = {}
    for number, job in jobs.items():
        node = dict(job.get("data") or {})
        try:
            data.check(node)
        except UserError as error:
            seen.faults.setdefault(str(error), []).append(number)
            continue
        key = hash_config({key: value for key, value in node.items() if key not in _SAME_ROWS})
        if key not in found:
            found[key] = _load(node) if len(found) < LOADED else None
        loaded = found[key]
        if isinstance(loaded, str):
            seen.faults.setdefault(loaded, []).append(number)
        elif loaded is not None:
            rows[number] = loaded
    for number, loaded in rows.items():
        for sentence in _advice(jobs[number], loaded):
            seen.advice.setdefault(sentence, []).append(number)
    return seen


def advice(cocktail: Cocktail, rows: int, recipe: Recipe, accumulate: int = 1) -> list[str]:
    """Return what members say of numbers that cannot matter in a job of so many training rows, each with its name."""
    steps = recipe.epochs * Steps(rows, recipe.batch_size * accumulate, 0, 1, lambda: 0).per_epoch
    told = ((name, member.advice(steps)) for name, member in cocktail.named_regularizers())
    return [f"regularizer.{name}: {sentence}" for name, sentence in told if sentence]


def tell(experiment: Experiment) -> None:
    """Log the advice for a job, which no sweep has told."""
    if not getattr(rank_zero_only, "rank", 0):
        accumulate = int(experiment.trainer.get("accumulate_grad_batches") or 1)
        for line in advice(experiment.cocktail, len(experiment.data.train), experiment.recipe, accumulate):
            _log.warning("%s", line)


def _load(node: Mapping[str, Any]) -> "_Rows | str":
    """Return what is known of the data set, or in a sentence why there is none."""
    try:
        loaded = data.load(node)
        return _Rows(len(loaded.train), loaded.task)
    except UserError as error:
        return str(error)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a reader raises, the jobs would too
        return f"data={node['name']} cannot be loaded ({type(error).__name__}: {error})"


def _advice(job: Mapping[str, Any], loaded: "_Rows") -> list[str]:
    """Return the advice for a job; none where something else is wrong with it, which it tells by itself."""
    trainer = job.get("trainer") or {}
    try:
        trust_config(job)
        cocktail = build_cocktail(job["regularizer"], 0, loaded.task)
        recipe = Recipe({}, {}, None, int(job["data"]["batch_size"]), 1, int(trainer["max_epochs"]))
        return advice(cocktail, loaded.train, recipe, int(trainer.get("accumulate_grad_batches") or 1))
    except Exception:  # noqa: BLE001 - it is told where the job itself is built, also what a user's class raises
        return []
