"""Finish a sweep: choose a setting, evaluate it on the test set once, report."""

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from reglab.analysis.selection import Choice, Trial
from reglab.analysis.table_report import FILE
from reglab.reports.collect import EARLIER_TEST_USES_TAG, RULE, RULE_TAG, read_tables
from reglab.reports.sweep import SweepReport, choose_each, collect_by_data, histogram_candidates, write
from reglab.reports.test_result import describe_runs
from reglab.sweeps.register import register_choice, registered_name
from reglab.tracking import RunTracker, TrackingSettings
from reglab.tracking.settings import view_command

# Of a data set: earlier uses of its test set, the test metrics of the chosen runs, the report.
Finished = tuple[str, dict[str, dict[str, float]] | None, SweepReport]


def finish_sweep(config: DictConfig, parent: RunTracker) -> None:
    """Write the report of a sweep into its folder and print table, verdict and paths.

    The chosen setting's runs are evaluated on the test set unless ``sweep.test`` is false. That is
    recorded with the parent run, which stays open, and so are earlier uses of the test set. Of
    several data sets each has its choice, test and report. ``sweep.register`` registers its model,
    of several data sets those, each under the name with that of its data.

    Args:
        config: Of the whole sweep.
        parent: The sweep's run.
    """
    settings = TrackingSettings.from_config(config.tracking)
    sweep: Any = OmegaConf.to_container(config.sweep, resolve=True)
    if not sweep.get("report", True):
        return
    found = collect_by_data(settings.uri, parent.run_id, _rule(config, settings.uri, parent.run_id))
    finished = []
    choices, without = choose_each(found)
    for name, choice in choices.items():
        data = found[name]
        uses, test = "", None
        if sweep.get("test", True):
            uses = _earlier_test_uses(settings.uri, parent.run_id, choice)
            test = _evaluate_test(settings.uri, choice)
        data = dataclasses.replace(
            data,
            tables=read_tables(parent.folder / FILE),  # on its way to the store
            earlier_test_uses=uses or data.earlier_test_uses,
            weights=_histogram_weights(settings.uri, choice),
        )
        finished.append((uses, test, write(data, choice, test, parent.folder, name if len(found) > 1 else "")))
    uses, test, last = finished[-1]
    finished[-1] = uses, test, dataclasses.replace(last, more=(*last.more, *without))
    _record(parent, finished)
    show(settings.uri, *(report for _, _, report in finished))
    if wanted := registered_name(sweep, settings.backend):
        for name, (_, _, report) in zip(choices, finished, strict=True):
            its_name = wanted.of(name if len(found) > 1 else "")
            register_choice(report.choice.chosen.trials[0].run_id, its_name, settings.uri)


def show(uri: str, *reports: SweepReport) -> None:
    """Print table, verdict and test result, the reports' paths and the dashboard's address.

    Args:
        uri: Of the MLflow store.
        reports: One, or one for each data set.
    """
    console = Console() if sys.stdout.isatty() else Console(width=100)
    for report in reports:
        _show(console, report)
    console.print()
    for report in reports:
        console.print(f"Report:    {report.path}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"Dashboard: {view_command(uri)}", highlight=False, markup=False, soft_wrap=True)


def _show(console: Console, report: SweepReport) -> None:
    console.print(report.table)
    console.print(report.verdict, highlight=False, markup=False)
    for more in report.more:
        console.print()
        console.print(more, highlight=False, markup=False)
    if report.tested:
        console.print(report.tested, highlight=False, markup=False)


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


def _record(parent: RunTracker, finished: Sequence[Finished]) -> None:
    """Record what was found, of each data set, with the sweep's run."""
    reports = [report for _, _, report in finished]
    parent.note("\n\n".join(report.note for report in reports))
    for report in reports:
        for path in (report.path, *report.files):
            parent.artifact(path)
    if any(uses for uses, _, _ in finished):
        parent.tag(**{EARLIER_TEST_USES_TAG: "; ".join(uses for uses, _, _ in finished if uses)})
    parent.tag(
        **{
            RULE_TAG: reports[0].choice.asked,
            "reglab.chosen": "; ".join(report.choice.chosen.label for report in reports),
            "reglab.verdict": " ".join(report.verdict.splitlines()[0] for report in reports),
        }
    )
    tested = sorted(run_id for _, test, _ in finished for run_id in test or ())
    if any(test is not None for _, test, _ in finished):
        parent.tag(**{"reglab.test_touched_by": " ".join(tested)})
