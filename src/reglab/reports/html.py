"""The report as one self-contained HTML page: no script, no network, light or dark theme.

Everything passes through Jinja2's autoescaping; only the figures' own SVG text, which matplotlib
escapes, is trusted.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import jinja2

from reglab.analysis.bias_variance.tradeoff import BiasVariance
from reglab.analysis.estimate import Interval
from reglab.analysis.formatting import metric_name, number, percent, plural
from reglab.analysis.selection import Choice
from reglab.analysis.sweep_data import SweepData
from reglab.analysis.verdict import Verdict
from reglab.core.metric_direction import lower_is_better
from reglab.reports.bias_variance import cells, halves, sentences, sources
from reglab.reports.bias_variance import headings as part_headings
from reglab.reports.figures import Picture, draw, draw_parts
from reglab.reports.section import Section
from reglab.reports.terminal import TableRow, constant_row, headings, row, setting
from reglab.reports.test_result import ResultOnTest

RULES = {  # how the page describes the rule
    "paired_1se": "the strongest setting of its regularizer within one standard error of its difference to the best. "
    "All settings share rows and seeds: SE² = variance over examples of the difference (mean over seeds) / examples + "
    "variance over seeds of the difference (mean over examples) / seeds",
    "best": "that setting",
    "1se": "the strongest setting of its regularizer within the best one's own standard error (Breiman et al. 1984)",
}


@dataclass(frozen=True)
class Card:
    """A number at the head of the page.

    Attributes:
        title: Its name.
        before: Its value without a regularizer.
        after: Its value with the chosen setting.
        below: The interval of the latter.
    """

    title: str
    before: str
    after: str
    below: str


def environment() -> jinja2.Environment:
    """Return where the pages' templates are found and filled in."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("reglab.reports", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def page(
    data: SweepData,
    choice: Choice,
    verdict: Verdict,
    test: ResultOnTest | None,
    parts: BiasVariance | None = None,
    sections: Sequence[Section] = (),
) -> str:
    """Return the whole page as HTML text.

    Args:
        data: Of the sweep.
        choice: The choice.
        verdict: On the choice.
        test: The chosen setting's test result, if there is one.
        parts: Bias and variance of the settings, of a sweep over resampled training parts.
        sections: More of it.
    """
    return (
        environment()
        .get_template("sweep.html")
        .render(
            title=data.name,
            when=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            verdict=verdict,
            choice=choice,
            cards=cards(data, choice),
            headings=headings(data),
            rows=[row(candidate, data, choice) for candidate in choice.candidates] + constant_rows(data, choice),
            rule=RULES[choice.rule],
            figures=draw(data, choice),
            parts=None if parts is None else bias_variance_section(parts),
            sections=sections,
            monitor=metric_name(choice.monitor),
            lower=lower_is_better(choice.monitor),
            test=test,
            data=data,
            repeat=command(choice),
            runs=plural(sum(len(candidate.trials) for candidate in choice.candidates), "run"),
        )
    )


@dataclass(frozen=True)
class PartsTable:
    """A table of the parts of a loss.

    Attributes:
        loss: Whose parts they are.
        headings: Of the columns.
        rows: Texts.
    """

    loss: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class PartsSection:
    """What the page shows of bias and variance.

    Attributes:
        sentences: What they say.
        picture: Against strength; None if no strength was swept.
        tables: One for each loss.
        halves: See ``reports.bias_variance.halves``.
        sources: The variance by what made runs differ; None where that is one thing.
    """

    sentences: tuple[str, ...]
    picture: Picture | None
    tables: tuple[PartsTable, ...]
    halves: tuple[tuple[str, str, str, str], ...]
    sources: PartsTable | None


def bias_variance_section(found: BiasVariance) -> PartsSection:
    """Return the section of the page.

    Args:
        found: Bias and variance of the settings.
    """
    losses: dict[str, list[tuple[str, ...]]] = {}
    names: dict[str, tuple[str, ...]] = {}
    for candidate, parts in found.settings:
        for each in (parts.main, *parts.others):
            losses.setdefault(each.loss, []).append((candidate.block, setting(candidate), *cells(each)))
            names[each.loss] = ("regularizer", "strength", *part_headings(each))
    tables = tuple(PartsTable(loss, names[loss], tuple(rows)) for loss, rows in losses.items())
    split, rows = sources(found)
    table = PartsTable("Variance by source", split, tuple(rows)) if rows else None
    return PartsSection(tuple(sentences(found)), draw_parts(found), tables, tuple(halves(found)), table)


def constant_rows(data: SweepData, choice: Choice) -> list[TableRow]:
    """Return the row of the constant predictor, if runs record it."""
    found_row = constant_row(data, choice)
    return [] if found_row is None else [found_row]


def command(choice: Choice) -> str:
    """Return the command that trains the chosen setting's first run again; empty if not known."""
    overrides = choice.chosen.trials[0].overrides
    if not overrides:
        return ""
    # An experiment may define a sweep; this is one run of it.
    once = ["hydra.mode=RUN"] if any(part.lstrip("+").startswith("experiment=") for part in overrides) else []
    return shlex.join(["reglab", "train", *overrides, *once])


def cards(data: SweepData, choice: Choice) -> list[Card]:
    """Return the cards of the page: gap, validation score, validation loss and exact zeros."""
    chosen = choice.chosen
    base = choice.baseline if choice.baseline is not chosen else None
    cards_shown = []
    for key in ("gap/loss", f"val/{data.score}", "val/loss", "weights/zeros"):
        if not chosen.has(key):
            continue
        format_value = percent if key == "weights/zeros" else number
        values = chosen.values(key)
        below = _bounds(chosen.interval(key), data.level) or (
            f"runs: {format_value(min(values))} to {format_value(max(values))}" if min(values) < max(values) else ""
        )
        title = "exact zeros" if key == "weights/zeros" else metric_name(key)
        before = format_value(base.mean(key)) if base and base.has(key) else ""
        cards_shown.append(Card(title, before, format_value(chosen.mean(key)), below))
    return cards_shown


def _bounds(interval: Interval, level: str) -> str:
    return f"{level}: {number(interval.low)} to {number(interval.high)}" if interval.low == interval.low else ""
