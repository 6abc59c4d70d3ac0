"""Finish a sweep: choose a setting, evaluate it on the test set once, report."""

import dataclasses
import sys
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from reglab.analysis.selection import Choice, Trial
from reglab.analysis.table_report import FILE
from reglab.reports.collect import EARLIER_TEST_USES_TAG, RULE, RULE_TAG, read_tables
from reglab.reports.sweep import SweepReport, collect, histogram_candidates, write
from reglab.reports.test_result import describe_runs
from reglab.sweeps.register import register_choice, registered_name
from reglab.tracking import RunTracker, TrackingSettings
from reglab.tracking.settings import view_command


def finish_sweep(config: DictConfig, parent: RunTracker) -> None:
    """Write the report of a sweep into its folder and print table, verdict and paths.

    The chosen setting's runs are evaluated on the test set unless ``sweep.test`` is false. That is
    recorded with the parent run, which stays open, and so are earlier uses of the test set.
    ``sweep.register`` registers its model.

    Args:
        config: Of the whole sweep.
        parent: The sweep's run.
    """
    settings = TrackingSettings.from_config(config.tracking)
    sweep: Any = OmegaConf.to_container(config.sweep, resolve=True)
    if not sweep.get("report", True):
        return
    data = collect(settings.uri, parent.run_id, _rule(config, settings.uri, parent.run_id))
    data = dataclasses.replace(data, tables=read_tables(parent.folder / FILE))  # on its way to the store
    choice = data.choose()
    test = None
    if sweep.get("test", True):
        data = dataclasses.replace(data, earlier_test_uses=_earlier_test_uses(settings.uri, parent.run_id, choice))
        if data.earlier_test_uses:
            parent.tag(**{EARLIER_TEST_USES_TAG: data.earlier_test_uses})
        test = _evaluate_test(settings.uri, choice)
    data = dataclasses.replace(data, weights=_histogram_weights(settings.uri, choice))
    report = write(data, choice, test, parent.folder)
    _record(parent, choice, report, test)
    show(report, settings.uri)
    if wanted := registered_name(sweep, settings.backend):
        register_choice(choice.chosen.trials[0].run_id, wanted, settings.uri)


def show(report: SweepReport, uri: str) -> None:
    """Print table, verdict and test result, the report's path and the dashboard's address.

    Args:
        report: The report.
        uri: Of the MLflow store.
    """
    console = Console() if sys.stdout.isatty() else Console(width=100)
    console.print(report.table)
    console.print(report.verdict, highlight=False, markup=False)
    if report.tested:
        console.print(report.tested, highlight=False, markup=False)
    console.print(f"\nReport:    {report.path}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"Dashboard: {view_command(uri)}", highlight=False, markup=False, soft_wrap=True)


def _rule(config: DictConfig, uri: str, parent_id: str) -> str | None:
    """Return the command's rule; None for the one by which the sweep was chosen before.

    The latter where a version without rules began the sweep and the command names none: today's
    default could be another choice, and a second setting would see the test set.
    """
    from reglab.tracking.mlflow.read import get_run  # late: mlflow

    overrides = OmegaConf.select(config, "hydra.overrides.task", default=[])
    named = any(str(override).lstrip("+").partition("=")[0] == RULE for override in overrides)
    rule: str | None = OmegaConf.select(config, RULE)
    return rule if named or RULE in get_run(uri, parent_id).params else None


def _earlier_test_uses(uri: str, parent_id: str, choice: Choice) -> str:
    """Return which runs outside this sweep saw the chosen runs' test set; empty if none did."""
    from reglab.tracking.mlflow.read import test_touches  # late: mlflow

    return describe_runs(test_touches(uri, [trial.run_id for trial in choice.chosen.trials], parent_id))


def _evaluate_test(uri: str, choice: Choice) -> dict[str, dict[str, float]]:
    """Return the test metrics of the chosen runs by run id, evaluating runs without any."""
    from reglab.training.lightning.testing import test_run  # late: torch

    return {trial.run_id: _recorded_test(trial) or test_run(uri, trial.run_id) for trial in choice.chosen.trials}


def _recorded_test(trial: Trial) -> dict[str, float]:
    return {key: value for key, value in trial.metrics.items() if key.startswith("test/")}


def _histogram_weights(uri: str, choice: Choice) -> dict[str, Any]:
    from reglab.training.restore import flat_weights

    return {
        candidate.label: flat_weights(uri, candidate.trials[0].run_id) for candidate in histogram_candidates(choice)
    }


def _record(parent: RunTracker, choice: Choice, report: SweepReport, test: dict[str, dict[str, float]] | None) -> None:
    parent.note(report.note)
    parent.artifact(report.path)
    parent.tag(
        **{
            RULE_TAG: choice.asked,
            "reglab.chosen": choice.chosen.label,
            "reglab.verdict": report.verdict.splitlines()[0],
        }
    )
    if test is not None:
        parent.tag(**{"reglab.test_touched_by": " ".join(sorted(test))})
