"""Write the report of a sweep: collect, choose, render."""

import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from rich.table import Table

from reglab.analysis.bias_variance.tradeoff import BiasVariance, bias_variance, has_replicas
from reglab.analysis.selection import Candidate, Choice
from reglab.analysis.sweep_data import SweepData
from reglab.analysis.verdict import Verdict, verdict
from reglab.core.errors import UserError
from reglab.core.markdown import plain
from reglab.core.secrets import hide
from reglab.reports.bias_variance import FILE, csv_text, sentences
from reglab.reports.bias_variance import table as bias_variance_table
from reglab.reports.collect import collect_by_data, collect_experiment
from reglab.reports.data_sets import in_file_name
from reglab.reports.html import page
from reglab.reports.sections import sections, told
from reglab.reports.terminal import WIDE, constant_row, headings, row, table
from reglab.reports.test_result import ResultOnTest, result_on_test

__all__ = ["SweepReport", "collect_by_data", "histogram_candidates", "report", "report_experiment", "write"]

# Run id -> its metrics on the test set, e.g. {"test/loss": 0.2, "test/accuracy": 0.95}.
TestMetrics = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class SweepReport:
    """A written report.

    Attributes:
        path: Of the HTML file.
        choice: The choice.
        verdict: As text, the headline in its first line.
        tested: The test result in a sentence; empty if there is none.
        table: For the terminal.
        note: Markdown.
        files: More files beside the page.
        more: More tables and sentences for the terminal.
    """

    path: Path
    choice: Choice
    verdict: str
    tested: str
    table: Table
    note: str
    files: tuple[Path, ...] = ()
    more: tuple[Table | str, ...] = ()


def histogram_candidates(choice: Choice) -> tuple[Candidate, ...]:
    """Return the candidates whose weights are drawn: baseline, chosen, and the sparsest choice."""
    sparse = [c for c in choice.blocks.values() if c.has("weights/zeros") and c.zeros > 0]
    wanted = [choice.baseline, choice.chosen, max(sparse, key=lambda c: c.zeros, default=None)]
    return tuple({c.label: c for c in wanted if c is not None}.values())


def write(data: SweepData, choice: Choice, test: TestMetrics | None, folder: Path, name: str = "") -> SweepReport:
    """Write ``report.html`` into ``folder`` and return the report.

    Args:
        data: Of the sweep.
        choice: The choice.
        test: Test metrics by run id, for the chosen candidate's runs; None for those that the runs
            have.
        folder: Where the page is written.
        name: Of the data set, in the names of the files, where the sweep has several.
    """
    answer = verdict(choice, data.score)
    if data.changed_data:
        answer = Verdict(data.changed_data, (answer.headline, *answer.details))
    result = result_on_test(data, choice, test)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file_name("report.html", name)
    parts = _bias_variance(data, choice)
    more = sections(data, choice)
    path.write_text(hide(page(data, choice, answer, result, parts, more)), encoding="utf-8")
    files, shown = _of_bias_variance(parts, folder / file_name(FILE, name))
    return SweepReport(
        path,
        choice,
        answer.text,
        result.sentence if result else "",
        table(data, choice, _columns()),
        note(data, choice, answer, result),
        files,
        (*shown, *told(more)),
    )


def _bias_variance(data: SweepData, choice: Choice) -> BiasVariance | None:
    if not has_replicas(choice):
        return None
    return bias_variance(choice, data.outputs, data.task, data.trials[0].level)


def file_name(file: str, data_set: str) -> str:
    """Return the name of a file of a data set: ``report.html``, ``report-digits.html``."""
    stem, dot, ending = file.partition(".")
    return f"{stem}-{in_file_name(data_set)}{dot}{ending}" if data_set else file


def _of_bias_variance(found: BiasVariance | None, path: Path) -> tuple[tuple[Path, ...], tuple[Table | str, ...]]:
    """Write the numbers at ``path``; return the files, and what the terminal shows."""
    if found is None:
        return (), ()
    drawn, told = bias_variance_table(found, _columns()), "\n".join(f"- {each}" for each in sentences(found))
    if drawn is None:
        return (), (told,)
    path.write_text(hide(csv_text(found)), encoding="utf-8")
    return (path,), (drawn, told)


def _columns() -> int:
    """Return the width of the table: the terminal's, or the full one without a terminal."""
    return shutil.get_terminal_size((WIDE, 0)).columns if sys.stdout.isatty() else WIDE


def report(uri: str, parent_id: str, folder: Path, rule: str | None = None) -> list[SweepReport]:
    """Collect, choose and write in one go, without weight histograms; a report for each data set.

    Args:
        uri: Of the MLflow store.
        parent_id: The sweep's run.
        folder: Where the page is written.
        rule: Another rule than the sweep's own.

    Raises:
        UserError: There is no such sweep or rule, or no run of it has a result.
    """
    found = collect_by_data(uri, parent_id, rule)
    choices, without = choose_each(found)
    written = [
        write(found[name], choice, None, folder, name if len(found) > 1 else "") for name, choice in choices.items()
    ]
    return [*written[:-1], replace(written[-1], more=(*written[-1].more, *without))]


def choose_each(found: Mapping[str, SweepData]) -> tuple[dict[str, Choice], tuple[str, ...]]:
    """Return the choice for each data set, and a sentence for each that has none.

    Args:
        found: Of a sweep, by data set.

    Raises:
        UserError: None of them has a result.
    """
    choices: dict[str, Choice] = {}
    errors: dict[str, UserError] = {}
    for name, data in found.items():
        try:
            choices[name] = data.choose()
        except UserError as error:
            errors[name] = error
    if not choices:
        raise next(iter(errors.values()))
    return choices, tuple(f"{name}: {error}" for name, error in errors.items())


def report_experiment(uri: str, name: str, folder: Path, rule: str | None = None) -> SweepReport:
    """Do the same for all runs of an experiment.

    Args:
        uri: Of the MLflow store.
        name: Of the experiment.
        folder: Where the page is written.
        rule: By which a setting is chosen; None: the default.

    Raises:
        UserError: There is no such experiment or rule, or no run of it has a result.
    """
    data = collect_experiment(uri, name, rule)
    return write(data, data.choose(), None, folder)


def note(data: SweepData, choice: Choice, answer: Verdict, test: ResultOnTest | None) -> str:
    """Return the markdown note: headline, details, test result, table of choices."""
    shown = [c for c in choice.candidates if c is choice.baseline or any(c is b for b in choice.blocks.values())]
    constant_rows = [constant] if (constant := constant_row(data, choice)) is not None else []
    names = [plain(heading) for heading in headings(data)]
    lines = [
        f"**{plain(answer.headline)}**",
        "",
        *(f"- {plain(detail)}" for detail in answer.details),
        *([f"- {plain(test.sentence)}"] if test else []),
        "",
        f"| {' | '.join(names)} |",
        f"|{'---|' * len(names)}",
        *(f"| {' | '.join(plain(cell) for cell in row(c, data, choice).cells)} |" for c in shown),
        *(f"| {' | '.join(plain(cell) for cell in constant.cells)} |" for constant in constant_rows),
        "",
        "The whole report, with figures, is the artifact `report.html`.",
    ]
    return "\n".join(lines)
