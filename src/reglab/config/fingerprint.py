"""Fingerprint of a job: hash of the config and data that determine what it computes.

No torch, unlike the rest.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_IGNORED_GROUPS = ("name", "trust", "tracking", "sweep", "experiment", "debug")
_IGNORED_TRAINER_KEYS = (
    *("accelerator", "devices", "strategy", "shards", "num_nodes", "checkpoint_seconds", "steps_per_batch"),
    *("compile", "activation_checkpointing"),
)
# Keys of ``measure`` in older configs; ignored where they are read.
REMOVED_KEYS = {"resamples": 400}
_FIRST_MEASURES = {"gap", "weights", "memorization"}  # when there were no others
READ_IMAGES = ("CNN", "Timm", "Transformers")  # of the models of reglab
_ORIGINAL_DEFAULTS = {
    "accumulate_grad_batches": 1,
    "sync_batchnorm": True,
    "polish_steps": 0,
}  # as it was before there were these settings
# null as before
_READING_KEYS = ("separator", "decimal", "missing", "encoding", "header", "sheet", "types", "event", "query")
_LATER_KEYS = ("take", "pad")  # likewise

_ARRAY_PATHS = ("inputs", "targets")
_STEERING_PATHS = ("group", "time", "sample_weight")  # of arrays too; null as before
_STREAM_KEYS = ("stream", "workers")  # how rows are read, not which


def fingerprint(config: Mapping[str, Any], data_digest: str, trail: str | None = None) -> str:
    """Return the hash of what a job computes; where it ran and is tracked does not count.

    1 and 1.0 are equal.

    Args:
        config: A resolved config.
        data_digest: Digest of the prepared data.
        trail: On a path, the hash of what the jobs before it compute.

    Returns:
        16 hex digits.
    """
    job = computed_part(config, trail)
    paths: tuple[str, ...] = ("path",)
    if job["data"].get("name") == "arrays":
        paths = (*_ARRAY_PATHS, *(key for key in _STEERING_PATHS if job["data"].get(key) is not None))
    job["data"] = {key: value for key, value in job["data"].items() if key not in paths} | {"digest": data_digest}
    return hash_config(job)


def computed_part(config: Mapping[str, Any], trail: str | None = None) -> dict[str, Any]:
    """Return the part of a resolved config that determines what the job computes.

    Args:
        config: A resolved config.
        trail: As in ``fingerprint``.
    """
    job = {key: value for key, value in config.items() if key not in _IGNORED_GROUPS}
    if trail:
        job["trail"] = trail  # it starts from what others computed before it
    for key in ("loss", "init_seed"):
        if job.get(key, "") is None:  # as it was before there was this
            del job[key]
    # Their order is their nesting.
    job["regularizer"] = list((job.get("regularizer") or {}).items())
    job["trainer"] = {
        key: value
        for key, value in job.get("trainer", {}).items()
        if key not in _IGNORED_TRAINER_KEYS and (key not in _ORIGINAL_DEFAULTS or value != _ORIGINAL_DEFAULTS[key])
    }
    job["data"] = {
        key: value
        for key, value in job.get("data", {}).items()
        if key not in _STREAM_KEYS and (key not in (*_READING_KEYS, *_LATER_KEYS) or value is not None)
    }
    if job["data"].get("shape") == "auto":  # as it was before there was this, by hand or by default
        target = str((job.get("model") or {}).get("_target_"))
        reads_images = target.startswith("reglab.models.") and target.rpartition(".")[2] in READ_IMAGES
        job["data"]["shape"] = "image" if reads_images else "flat"
    # As it was before scores could be asked for, and while there was a bootstrap.
    if "measure" in job:
        measure = {key: value for key, value in job["measure"].items() if key != "scores" or value}
        if {name for name, value in measure.items() if isinstance(value, Mapping)} == _FIRST_MEASURES:
            measure = {key: value for key, value in measure.items() if not _is_first_measure(key, value)}
        job["measure"] = REMOVED_KEYS | measure
    return job


def _is_first_measure(name: str, node: Any) -> bool:
    """Return whether a node of ``measure`` is one that was always taken, as it was."""
    if name not in _FIRST_MEASURES or not isinstance(node, Mapping):
        return False
    return not any(value is not None for key, value in node.items() if key != "_target_")


def hash_config(value: Any) -> str:
    """Return 16 hex digits of the SHA-256 of plain containers; the order of keys does not count."""
    return hashlib.sha256(json.dumps(_canonical(value), sort_keys=True).encode()).hexdigest()[:16]


def _canonical(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _canonical(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_canonical(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
