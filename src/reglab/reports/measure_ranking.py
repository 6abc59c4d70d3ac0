"""Rank the measures of finished sweeps by how well they predict the gap: read, table, CSV file."""

import csv
import io
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from reglab.analysis.formatting import bracket, number, percent, plural
from reglab.analysis.grouping import short_key
from reglab.analysis.measure_ranking import LEAST_PAIRS, Ranking
from reglab.analysis.trial import Trial
from reglab.core.errors import UserError
from reglab.core.terminal import shown
from reglab.reports.collect import trial
from reglab.reports.data_sets import by_data_set
from reglab.tracking.run_record import RunRecord, select_attempts

_MOST_ROWS = 40


def trials_of(uri: str, sweeps: Sequence[str]) -> list[Trial]:
    """Return the runs of some sweeps of one data set, each run once.

    Args:
        uri: The store for ids and names; a folder knows its own.
        sweeps: Folders, ids, starts of ids or names.

    Raises:
        UserError: For what is no sweep, and for several data sets.
    """
    from reglab.tracking.mlflow import read  # late: mlflow

    records: dict[str, RunRecord] = {}
    for sweep in sweeps:
        parent = read.find_run(uri, sweep)
        found = select_attempts(read.sweep_runs(parent.uri, parent.run_id))
        if not found:
            raise UserError(f"{sweep} has no runs: give a sweep, made by reglab train -m (or reglab.sweep)")
        records |= {record.run_id: record for record in found}
    parts = by_data_set(list(records.values()))
    if len(parts) > 1:
        raise UserError(
            f"these runs are of several data sets ({', '.join(parts)}), whose gaps do not compare: rank the measures "
            "of one data set at a time"
        )
    return [trial(record) for record in records.values()]


def table(ranking: Ranking) -> Table:
    """Return the ranking as a table for the terminal."""
    more = len(ranking.ranked) - _MOST_ROWS
    drawn = Table(
        title=Text(f"What predicts {ranking.gap}: {plural(ranking.runs, 'run')}, {ranking.settings} settings"),
        caption=f"{more} more are in the file of --out FILE.csv" if more > 0 else None,
        title_justify="left", box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0),
    )  # fmt: skip
    headings = ("measure", f"Kendall τ [{100 * ranking.level:g}%]", "granulated", "worst sign\nerror", "of", "runs")
    for heading in headings:
        names = heading in ("measure", "of")
        drawn.add_column(heading, justify="left" if names else "right", overflow="fold", no_wrap=not names)
    for each in ranking.ranked[:_MOST_ROWS]:
        key, _, values = each.environment.partition(" ")
        environment = f"{short_key(key, each.by_setting)} {values}"
        cells = (each.name, bracket(each.tau), number(each.granulated), percent(each.sign_error), environment)
        drawn.add_row(*(Text(shown(cell)) for cell in (*cells, str(each.runs))))
    return drawn


def sentences(ranking: Ranking) -> str:
    """Return what the table leaves out and how to read it, a line each."""
    lines = [
        "Positive: the larger the number, the larger the gap. Granulated: pairs of runs that differ in one setting.",
        f"{plural(len(ranking.ranked), 'number')} compared on the same runs: the best looks better than it is.",
    ]
    if ranking.lost:
        lines.append(f"Left out: {plural(ranking.lost, 'run')} that did not finish with a finite {ranking.gap}.")
    if ranking.left_out:
        lines.append(f"Left out, of validation or test rows by their names: {', '.join(ranking.left_out)}.")
    if all(each.sign_error != each.sign_error for each in ranking.ranked):
        lines.append(f"No worst sign error: no two values of a setting have {LEAST_PAIRS} pairs; add seeds.")
    return shown("\n".join(lines))


def csv_text(ranking: Ranking) -> str:
    """Return the whole ranking as CSV, a row for each number."""
    keys = sorted({key for each in ranking.ranked for key in each.by_setting})
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(
        ["measure", "runs", "tau", "tau_low", "tau_high", "granulated", "worst_sign_error", "worst_environment"]
        + [f"granulated/{key}" for key in keys]
    )
    for each in ranking.ranked:
        row = [
            each.name,
            each.runs,
            each.tau.mean,
            each.tau.low,
            each.tau.high,
            each.granulated,
            each.sign_error,
            each.environment,
        ]
        writer.writerow([*row, *(each.by_setting.get(key, "") for key in keys)])
    return buffer.getvalue()
