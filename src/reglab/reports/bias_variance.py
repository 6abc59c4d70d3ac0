"""Bias and variance in a sweep's report: sentences, tables, and a file of all numbers."""

import csv
import io
import math
from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from reglab.analysis.bias_variance.decompose import (
    ADDS,
    HALF,
    HELPS,
    MAIN_WRONG,
    NOISE,
    RISK,
    SUM,
    VARIANCE,
    Decomposition,
    Parts,
)
from reglab.analysis.bias_variance.intervals import Number
from reglab.analysis.bias_variance.tradeoff import BiasVariance, Tradeoff, bias_name
from reglab.analysis.estimate import Interval
from reglab.analysis.formatting import bracket, number, plural
from reglab.core.terminal import shown
from reglab.reports.terminal import setting

FILE = "bias_variance.csv"
TITLE = "Bias and variance"
_SETTING, _CELL = 32, 23  # columns of a terminal: of a setting's name, and of a number with its interval
_SQUARES = ("squared error", "Brier score")
_UNKNOWN = Number(math.nan)
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
    first = found.settings[0][1]
    names = headings(first.main)
    wide = _SETTING + _CELL * len(names) <= width
    rows = []
    for candidate, parts in found.settings:
        texts = cells(parts.main) if wide else [each.split(" [")[0] for each in cells(parts.main)]
        rows.append((candidate.block, setting(candidate), *texts))
    title = f"{TITLE} of the {first.main.loss}, {plural(first.replicas, 'training sample')}"
    return plain_table(title, ("regularizer", "strength", *names), rows)


def plain_table(title: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table for the terminal: two columns of names, then numbers.

    Args:
        title: Above it.
        names: Headings.
        rows: Texts.
    """
    drawn = Table(
        title=Text(shown(title), no_wrap=True),
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        padding=0,
        min_width=len(title),
    )
    for place, name in enumerate(names):
        numbers = place > 1
        drawn.add_column(name, justify="right" if numbers else "left", no_wrap=numbers, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(shown(cell)) for cell in row))
    return drawn


def sources(found: BiasVariance) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return headings and rows of the variance by source; none where runs differ in samples alone."""
    split = [(candidate, _by_source(parts)) for candidate, parts in found.settings]
    names = list(dict.fromkeys(name for _, parts in split for name in parts.sources))
    if not names:
        return (), []
    rows = [
        (candidate.block, setting(candidate), *(_text(parts.sources.get(name, _UNKNOWN)) for name in names))
        for candidate, parts in split
    ]
    return ("regularizer", "strength", *names), rows


def _by_source(parts: Decomposition) -> Parts:
    """Return the parts of the squared error, or of the Brier score: where variances add up."""
    return next(each for each in (parts.main, *parts.others) if each.loss in _SQUARES)


def sentences(found: BiasVariance) -> list[str]:
    """Return what each regularizer trades, what the variance speaks of, and what is left out."""
    return [*(_traded(each, found) for each in found.tradeoffs), found.scope, *_unknown(found), *found.left_out]


def _unknown(found: BiasVariance) -> Iterator[str]:
    if found.settings and not found.noise_known:
        yield "Bias and noise are one number: what of the loss no model could avoid is not known of these data."
    if found.settings and math.isnan(found.settings[0][1].main.numbers[RISK].low):
        yield "No intervals: they need three training samples, and three of each seed that varies."


def _traded(each: Tradeoff, found: BiasVariance) -> str:
    parts = next(parts for candidate, parts in found.settings if candidate is each.best)
    names = {RISK: "risk", VARIANCE: "variance"}
    changes = ", ".join(f"{names.get(key, bias_name(parts.main))} {_change(n)}" for key, n in each.differences.items())
    told = f" ({100 * found.level:g}% intervals)" if "[" in changes else ""
    if each.inside is None:
        return f"{each.best.label} against {each.against.label}: {changes}{told}."
    place = "inside the range that was tried" if each.inside else "at an end of the range that was tried: widen it"
    against = f"Against {each.against.label}: {changes}{told}."
    return f"Least risk of {each.best.block} at {setting(each.best)}, {place}. {against}"


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
