"""Read a sweep's runs from MLflow."""

import json
import logging
import os
import platform
import shlex
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from reglab.analysis.formatting import plural
from reglab.analysis.per_example_file import Examples
from reglab.analysis.rules import DEFAULT, check_rule
from reglab.analysis.sweep_data import History, SweepData
from reglab.analysis.table_report import FILE, TableReport, load
from reglab.analysis.trial import Trial
from reglab.core.errors import UserError
from reglab.core.metric_direction import CHARTS, LOWER, declare
from reglab.core.override import typed
from reglab.reports.data_sets import BLOCK, DATA_SET, by_data_set, short_blocks
from reglab.reports.figures.summary import rows
from reglab.reports.per_example import collect_examples
from reglab.tracking.run_record import JOB, select_attempts

if TYPE_CHECKING:
    from reglab.tracking.run_record import RunRecord

_log = logging.getLogger(__name__)

PACKAGES = ("reglab", "torch", "pytorch-lightning", "hydra-core", "mlflow")
FINAL = "final/"
MONITOR = "measure.monitor"
RULE = "sweep.rule"
RULE_TAG = "reglab.rule"  # of a sweep: by which it was chosen last
_DATA = (*DATA_SET, "data.inputs")
_PARENT = "mlflow.parentRunId"
_RULE_OF_OLD_SWEEPS = "paired_1se"  # of sweeps made before there were rules
EARLIER_TEST_USES_TAG = "reglab.test_looked_before"  # of a sweep: which runs saw its test set before


def collect(uri: str, parent_id: str, rule: str | None = None) -> SweepData:
    """Return the data of the report of a sweep over one data set.

    Args:
        uri: Of the MLflow store.
        parent_id: The sweep's run.
        rule: Another rule than the sweep's ``sweep.rule``.

    Raises:
        UserError: There is no such sweep, or rule, or it has several data sets.
    """
    found = collect_by_data(uri, parent_id, rule)
    if len(found) > 1:
        raise UserError(
            f"the sweep has several data sets ({', '.join(found)}), each with a choice of its own, which its report "
            "names: give a run of one of them"
        )
    return next(iter(found.values()))


def collect_by_data(uri: str, parent_id: str, rule: str | None = None) -> dict[str, SweepData]:
    """Return the data of a sweep's reports from MLflow, by data set: losses of different data do not
    compare.

    Of several attempts at a job one counts, see ``select_attempts``. The monitor is the config's
    ``measure.monitor``. Histories are read only for the settings that the report draws.

    Args:
        uri: Of the MLflow store.
        parent_id: The sweep's run.
        rule: Another rule than the sweep's ``sweep.rule``.

    Raises:
        UserError: There is no such sweep, or rule.
    """
    from reglab.tracking.mlflow import read  # late: mlflow

    parent = read.get_run(uri, parent_id)
    parts = by_data_set(select_attempts(read.sweep_runs(uri, parent_id)))
    if len(parts) < 2:
        return {name: _collect(uri, parent, records, rule) for name, records in (parts or {"": []}).items()}
    absent = max(0, int(parent.tags.get("reglab.jobs") or 0) - sum(map(len, parts.values())))  # of any of them
    tags = {key: value for key, value in parent.tags.items() if key != EARLIER_TEST_USES_TAG}  # of all together
    found = {}
    for name, records in parts.items():
        jobs = {"reglab.jobs": str(len(records) + absent)} if "reglab.jobs" in tags else {}
        named = replace(parent, name=f"{parent.name}, {name}", tags=tags | jobs)
        found[name] = _collect(uri, named, short_blocks(records), rule)
    return found


def collect_experiment(uri: str, name: str, rule: str | None = None) -> SweepData:
    """Return the data of a report on all runs of an experiment: of sweeps, of single runs, and of
    scripts with ``Regularize`` and Lightning's ``MLFlowLogger``.

    Runs that carry our metrics and not our tags are settings of their own, by their names.

    Args:
        uri: Of the MLflow store.
        name: Of the experiment.
        rule: By which a setting is chosen; None: the default.

    Raises:
        UserError: There is no such experiment or rule, or no run of it has a validation loss.
    """
    from reglab.tracking.mlflow import read  # late: mlflow

    of_sweep: dict[str, list[RunRecord]] = {}
    single: list[RunRecord] = []
    for record in read.experiment_runs(uri, name):
        if not any(key in record.metrics for key in ("final/val/loss", "val/loss")):
            continue
        parent = record.tags.get(_PARENT)
        of_sweep.setdefault(parent, []).append(record) if parent else single.append(_tagged(record))
    of_sweeps = [record for runs in of_sweep.values() for record in select_attempts(runs)]
    # A job's number counts within its sweep alone.
    records = [replace(each, tags={**each.tags, JOB: ""}) for each in (*single, *of_sweeps)]
    if not records:
        raise UserError(
            f"no run of the experiment {name!r} has a validation loss: train some by reglab train "
            f"{typed('tracking.experiment', name)}, or with reglab.Regularize and Lightning's MLFlowLogger"
        )
    _check_one_data_set(name, records)
    whole = replace(records[0], name=name, tags={}, params={}, run_id="")
    return _collect(uri, whole, records, rule or DEFAULT)


def _check_one_data_set(name: str, records: "Iterable[RunRecord]") -> None:
    """Refuse runs of several data sets, as far as they say of which they are."""
    named = [
        " ".join(record.params[key] for key in _DATA if record.params.get(key, "null") != "null") for record in records
    ]
    counts = Counter(name or "a data set that they do not name" for name in named)
    if len(counts) > 1:
        listed = " and ".join(f"{plural(count, 'run')} of {data}" for data, count in counts.items())
        raise UserError(
            f"the experiment {name!r} has {listed}, which cannot be compared: report on the sweeps by themselves, and "
            "give each study a tracking.experiment of its own"
        )


def _tagged(record: "RunRecord") -> "RunRecord":
    """Return a run with what a report reads, where it logged our metrics and nothing else of ours."""
    tags, metrics = dict(record.tags), dict(record.metrics)
    tags.setdefault("reglab.regularizer", record.name)
    if "final/val/loss" not in metrics:
        sides = ("train/", "val/", "gap/", "weights/")
        metrics |= {f"{FINAL}{key}": value for key, value in metrics.items() if key.startswith(sides)}
    return replace(record, tags=tags, metrics=metrics)


def _collect(uri: str, parent: "RunRecord", records: "list[RunRecord]", rule: str | None) -> SweepData:
    """Return the data of a report on ``records``.

    Args:
        uri: Of the MLflow store.
        parent: What they belong to; its id is empty where that is no run.
        records: The runs.
        rule: Another rule than the parent's.
    """
    from reglab.tracking.mlflow import read  # late: mlflow

    trials = tuple(trial(record) for record in records)
    for name in {name for record in records for name in record.tags.get(LOWER, "").split(",")}:
        declare(name, higher=False)
    by_id = {record.run_id: record for record in records}

    def outputs(run_ids: Sequence[str]) -> dict[str, Examples]:
        return collect_examples([by_id[run_id] for run_id in run_ids], outputs=True)

    score = next((r.tags["reglab.score"] for r in records if "reglab.score" in r.tags), "accuracy")
    monitor = next((r.params[MONITOR] for r in (parent, *records) if MONITOR in r.params), "val/loss")
    jobs = int(parent.tags["reglab.jobs"]) if parent.tags.get("reglab.jobs") else None
    asked = (
        rule
        or parent.tags.get(RULE_TAG)
        or next((r.params[RULE] for r in (parent, *records) if r.params.get(RULE)), _RULE_OF_OLD_SWEEPS)
    )
    keys = [f"{side}/{name}" for name in ("loss", score) for side in ("train", "val", "gap")]
    data = SweepData(
        name=parent.name,
        trials=trials,
        score=score,
        monitor=monitor,
        jobs=jobs,
        earlier_test_uses=parent.tags.get(EARLIER_TEST_USES_TAG, ""),
        provenance=_provenance(parent, records),
        command=_command(parent.tags.get("reglab.command", "")),
        results=collect_examples(records),
        rule=check_rule(asked),
        changed_data=_changed_data(records),
        tables=_tables(parent) if parent.run_id else (),
        task=next((r.tags["reglab.task"] for r in records if r.tags.get("reglab.task")), ""),
        charts=_charts(records),
        outputs=outputs,
    )
    histories: dict[str, History] = {run_id: read.history(uri, run_id, keys) for run_id in _runs_drawn(data)}
    return replace(data, histories=histories)


def _charts(records: "Iterable[RunRecord]") -> tuple[str, ...]:
    """Return what the measures of the runs have drawn, by the names that final metrics have."""
    found = {name for record in records for name in record.tags.get(CHARTS, "").split(",") if name}
    return tuple(sorted(name.replace("weights/all/", "weights/") for name in found))


def _changed_data(records: "Iterable[RunRecord]") -> str:
    """Return the sentence about runs of the same data options that did not see the same data."""
    runs_by_digest: dict[tuple[str, ...], dict[str, int]] = {}
    for record in records:
        if digest := record.tags.get("reglab.data_digest"):
            options = sorted(f"{key}={value}" for key, value in record.params.items() if key.startswith("data."))
            counts = runs_by_digest.setdefault((record.params.get("model._target_", ""), *options), {})
            counts[digest] = counts.get(digest, 0) + 1
    changed = next((counts for counts in runs_by_digest.values() if len(counts) > 1), None)
    if changed is None:
        return ""
    runs = " and ".join(f"{plural(count, 'run')} saw data {digest[:8]}" for digest, count in changed.items())
    return (
        f"The data changed while the sweep ran: with the same options, {runs}, so its settings cannot "
        "be compared. Run it again with data that stay as they are: sweep.again=true"
    )


def _tables(parent: "RunRecord") -> tuple[TableReport, ...]:
    from reglab.tracking.mlflow.read import copy_artifact  # late: mlflow

    with tempfile.TemporaryDirectory() as folder:
        path = copy_artifact(parent, FILE, Path(folder))
        return read_tables(path) if path else ()


def read_tables(path: Path) -> tuple[TableReport, ...]:
    """Return the reports of tables in a file; none without it, and none with a warning where it
    cannot be read.
    """
    try:
        return load(path) if path.exists() else ()
    except (OSError, ValueError) as error:
        _log.warning("the report has nothing about the table: %s", error)
        return ()


def _runs_drawn(data: SweepData) -> list[str]:
    try:
        choice = data.choose()
    except UserError:  # nothing finished, which the choice reports
        return []
    return [run.run_id for candidate in rows(choice) for run in candidate.trials]


def trial(record: "RunRecord") -> Trial:
    """Return an MLflow run as a trial, with its final metrics and those of the test set."""
    tags, metrics = record.tags, record.metrics
    regularizer = tags.get("reglab.regularizer") or "none"
    final = {
        key.removeprefix(FINAL).replace("weights/all/", "weights/"): value
        for key, value in metrics.items()
        if key.startswith(FINAL)
    }
    return Trial(
        run_id=record.run_id,
        block=tags.get(BLOCK) or regularizer,
        regularizer=regularizer,
        strength=float(tags["reglab.strength"]) if tags.get("reglab.strength") else None,
        stronger=int(tags.get("reglab.stronger") or 1),
        seed=int(tags["reglab.seed"]) if tags.get("reglab.seed") else None,
        metrics=final | {key: value for key, value in metrics.items() if key.startswith("test/")},
        params=record.params,
        status=record.status,
        overrides=overrides(tags.get("reglab.overrides", "")),
        message=tags.get("reglab.message", ""),
        directions=_directions(tags.get("reglab.directions", "")),
        number=tags.get(JOB, ""),
    )


def _directions(text: str) -> dict[str, int]:
    """Return the sign of each number that regularizes more or less; empty for earlier runs."""
    try:
        directions = json.loads(text or "{}")
        return {str(key): 1 if sign > 0 else -1 for key, sign in directions.items()}
    except (ValueError, TypeError, AttributeError, RecursionError):
        return {}


def overrides(text: str) -> tuple[str, ...]:
    """Return overrides that were joined for a shell, without those that only a sweep sets.

    Args:
        text: Of a tag; if it was too long for MLflow it is no such list, and nothing is returned.
    """
    try:
        parts = shlex.split(text)
    except ValueError:
        return ()
    if not all("=" in part or part.startswith("~") for part in parts):
        return ()
    return tuple(part for part in parts if not part.lstrip("+~").startswith("sweep."))


def _command(text: str) -> str:
    """Return a command line with the program's name instead of its path."""
    try:
        program, *rest = shlex.split(text)
    except ValueError:  # nothing recorded, or cut to MLflow's length
        return text
    return shlex.join([PurePath(program).name, *rest])


def _provenance(parent: "RunRecord", records: "list[RunRecord]") -> dict[str, str]:
    """Return what identifies a reproduction: code, data, versions, machine."""
    first = records[0] if records else parent
    tags = first.tags
    changed = tags.get("mlflow.source.git.dirty") == "true"
    commit = tags.get("mlflow.source.git.commit", "not in a git checkout") + (" with local changes" if changed else "")
    digests = sorted({r.tags["reglab.data_digest"] for r in records if "reglab.data_digest" in r.tags})
    return {
        "MLflow run of the sweep": parent.run_id or "none: the runs of an experiment",
        "git commit": commit,
        "data": first.params.get("data.name") or first.params.get("data._target_", "not recorded"),
        "data digest": ", ".join(digest[:16] for digest in digests) or "not recorded",
        "versions (of this report)": versions(),
        "machine (of this report)": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores",
    }


def versions(packages: Iterable[str] = PACKAGES) -> str:
    """Return Python's version and those of the packages that are installed."""
    by_package: Mapping[str, str] = {name: _version(name) for name in packages}
    return ", ".join([f"Python {platform.python_version()}", *(f"{n} {v}" for n, v in by_package.items() if v)])


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
