"""Read the per-example losses of a sweep's runs from their artifacts."""

import logging
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from reglab.analysis.per_example_file import FILE, Examples, read
from reglab.core.errors import UserError

if TYPE_CHECKING:
    from reglab.tracking.run_record import RunRecord

_log = logging.getLogger(__name__)
_LARGE = ("val_outputs", "val_targets", "val_expected")  # large, and not needed for comparisons
_READERS = 16  # parallel downloads


def collect_examples(records: Iterable["RunRecord"], outputs: bool = False) -> dict[str, Examples]:
    """Return per-example results by run id, of the runs that have them.

    Runs of earlier versions have none and are left out; one whose file cannot be read is left out
    with a warning. Local artifacts are read in place, others are downloaded, several at a time.

    Args:
        records: The runs.
        outputs: With the models' outputs and the targets.

    Raises:
        UserError: A server does not answer.
    """
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(_READERS) as pool:
        all_records = list(records)
        examples = pool.map(lambda each: _one(each, Path(folder) / each.run_id, outputs), all_records)
        return {record.run_id: each for record, each in zip(all_records, examples, strict=True) if each is not None}


def _one(record: "RunRecord", folder: Path, outputs: bool) -> Examples | None:
    from reglab.tracking.mlflow.read import copy_artifact  # late: mlflow

    path = copy_artifact(record, FILE, folder)
    if path is None:
        return None
    try:
        return read(path, without=() if outputs else _LARGE)
    except UserError as error:
        _log.warning("%s", error)
        return None
