"""Bias and variance in a sweep's report: sentences, tables, and a file of all numbers."""

import csv
import io
import math
from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from reglab.analysis.bias_variance.decompose import ADDS, HALF, HELPS, MAIN_WRONG, NOISE, RISK, SUM, VARIANCE, Parts
from reglab.analysis.bias_variance.intervals import Number
from reglab.analysis.bias_variance.tradeoff import BiasVariance, Tradeoff, bias_name
from reglab.analysis.estimate import Interval
from reglab.analysis.formatting import bracket, number, plural
from reglab.core.terminal import shown
from reglab.reports.terminal import setting

FILE = "bias_variance.csv"
TITLE = "Bias and variance"
_COLUMNS = {VARIANCE: "variance", NOISE: "noise", SUM: "sum", RISK: "measured risk"}
_OF_ERROR = {MAIN_WRONG: "main prediction wrong", VARIANCE: "variance", ADDS: "adds", HELPS: "helps", RISK: "error"}


def headings(parts: Parts) -> list[str]:
    """Return the headings of ``cells``: of the parts of a loss."""
    if parts.loss == "error":
        return list(_OF_ERROR.values())
    return [bias_name(parts), *(name for key, name in _COLUMNS.items() if key in parts.numbers)]


def cells(parts: Parts) -> list[str]:
    """Return the parts of a loss as text, each with its interval."""
    if parts.loss == "error":
        return [_text(parts.numbers[key]) for key in _OF_ERROR]
    return [_text(parts.bias), *(_text(parts.numbers[key]) for key in _COLUMNS if key in parts.numbers)]


def _text(found: Number) -> str:
    return bracket(Interval(found.value, found.low, found.high)).replace("-0.000", "0.000")


def table(found: BiasVariance, width: int) -> Table | None:
    """Return the table for the terminal; None where no setting has a decomposition.

    Args:
        found: Of the sweep.
        width: Of the terminal, in columns: intervals are left out where it is narrow.
    """
    if not found.settings:
        return None
    main = found.settings[0][1].main
    drawn = Table(
        title=Text(shown(f"{TITLE} of the {main.loss}, {plural(found.settings[0][1].replicas, 'training sample')}")),
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        padding=0,
    )
    wide = len(headings(main)) <= 3 and width >= 100
    for heading in ("regularizer", "strength"):
        drawn.add_column(heading, max_width=16, overflow="fold")
    for heading in headings(main):
        drawn.add_column(heading, justify="right", no_wrap=True)
    for candidate, parts in found.settings:
        texts = cells(parts.main) if wide else [each.split(" [")[0] for each in cells(parts.main)]
        drawn.add_row(*(Text(shown(each)) for each in (candidate.block, setting(candidate), *texts)))
    return drawn


def sentences(found: BiasVariance) -> list[str]:
    """Return what each regularizer trades, what the variance speaks of, and what is left out."""
    return [*(_traded(each, found) for each in found.tradeoffs), found.scope, *_unknown(found), *found.left_out]


def _unknown(found: BiasVariance) -> Iterator[str]:
    if found.settings and not found.noise_known:
        yield "Bias and noise are one number: what of the loss no model could avoid is not known of these data."


def _traded(each: Tradeoff, found: BiasVariance) -> str:
    parts = next(parts for candidate, parts in found.settings if candidate is each.best)
    names = {RISK: "risk", VARIANCE: "variance"}
    changes = ", ".join(f"{names.get(key, bias_name(parts.main))} {_change(n)}" for key, n in each.differences.items())
    place = "inside the range that was tried" if each.inside else "at an end of the range that was tried: widen it"
    least = f"Least risk of {each.best.block} at {setting(each.best) or 'its setting'}, {place}"
    return f"{least}. Against {each.against.label}: {changes} ({100 * found.level:g}% intervals)."


def _change(found: Number) -> str:
    return f"{found.value:+.3g}" + (f" [{found.low:+.3g}, {found.high:+.3g}]" if found.low == found.low else "")


def records(found: BiasVariance) -> list[dict[str, str | float | int]]:
    """Return a mapping for each setting, loss and part: value, interval, training samples, runs, rows.

    Args:
        found: Of the settings.
    """
    return [
        {
            "regularizer": candidate.regularizer,
            "strength": math.nan if candidate.strength is None else candidate.strength,
            "setting": candidate.label,
            "loss": each.loss,
            "part": name,
            "value": part.value,
            "low": part.low,
            "high": part.high,
            "replicas": parts.replicas,
            "runs": parts.runs,
            "rows": parts.rows,
        }
        for candidate, parts in found.settings
        for each in (parts.main, *parts.others)
        for name, part in _all_numbers(each)
    ]


def csv_text(found: BiasVariance) -> str:
    """Return ``records`` as CSV; what is not known is empty."""
    buffer = io.StringIO()
    rows = records(found)
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if value != value else value for key, value in row.items()} for row in rows)
    return buffer.getvalue()


def _all_numbers(parts: Parts) -> Iterator[tuple[str, Number]]:
    yield from parts.numbers.items()
    for name, found in parts.sources.items():
        yield f"variance of {name}", found


def halves(found: BiasVariance) -> list[tuple[str, str, str, str]]:
    """Return (setting, samples, variance, variance from half the samples) of cross-entropies."""
    return [
        (candidate.label, str(parts.replicas), number(numbers[VARIANCE].value), number(numbers[HALF].value))
        for candidate, parts in found.settings
        if HALF in (numbers := parts.main.numbers)
    ]
