"""What users wrote stays text in reports and notes."""

import re
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser

import numpy as np
import pytest

from reglab import dataset
from reglab.analysis.selection import select
from reglab.regularizers import Cocktail
from reglab.reports.sweep import write
from reglab.training.run_note import run_note
from reports.sweep_cases import sweep
from security.names import NAMES

select = partial(select, rule="paired_1se")


class Elements(HTMLParser):
    """Which elements a page has, with the names of their attributes, and every address in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: set[tuple[str, frozenset[str]]] = set()
        self.addresses: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.add((tag, frozenset(name for name, _ in attributes)))
        self.addresses |= {value for name, value in attributes if name.endswith(("href", "src")) and value[:1] != "#"}

    handle_startendtag = handle_starttag

    def handle_data(self, data):
        self.text += data


def renamed(data, name):
    """Return the sweep with ``name`` wherever a user's word can stand."""
    trials = tuple(
        replace(
            trial,
            block=trial.block if trial.block == "none" else f"{trial.block}{name}",
            params={**trial.params, "model.kind": name},
            overrides=(*trial.overrides, f"name={name}"),
            message=trial.message and name,
        )
        for trial in data.trials
    )
    return replace(data, name=name, command=f"reglab {name}", provenance={name: name}, trials=trials)


def test_a_report_has_no_element_that_a_name_brought(tmp_path):
    """All short names at once; a page whose names are harmless is the measure."""
    data = replace(sweep(["none", "l2"]), histories={})
    hostile = "".join(name for name in NAMES if len(name) < 100 and name != "\ud800")
    reports = [
        write(renamed(data, name), select(renamed(data, name).trials), None, tmp_path / name[:8])
        for name in ("harmless", f"ho-stile{hostile}")
    ]
    harmless, found = (Elements(report.path.read_text(encoding="utf-8")) for report in reports)
    assert found.found == harmless.found
    assert found.addresses == harmless.addresses == set()
    assert "{{7*7}}" in found.text
    assert_plain(reports[1].note)


@pytest.mark.parametrize("name", [name for name in NAMES if "\ud800" not in name])
def test_a_note_has_no_markup_that_a_name_brought(name):
    inputs = np.random.default_rng(0).normal(size=(40, 3))
    made = replace(dataset(inputs, np.arange(40) % 2), name=name)
    final = dict.fromkeys((*("train/loss", "val/loss", "gap/loss", "gap/loss_low", "gap/loss_high"), "train/accuracy",
                           "val/accuracy", "gap/accuracy", "gap/accuracy_low", "gap/accuracy_high"), 0.5)  # fmt: skip
    assert_plain(run_note(made, Cocktail({}, 0, made.task), final))


def assert_plain(markdown: str) -> None:
    assert not re.search(r"(?<!\\)(?:\\\\)*[<>]", markdown)
    assert not re.search(r"(?<!\\)(?:\\\\)*\]\(", markdown)
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in markdown.splitlines() if line.startswith("|")}
    assert len(widths) == 1
