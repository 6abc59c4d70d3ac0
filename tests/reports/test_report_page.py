import shlex
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser

import pytest

from reglab.analysis.selection import select
from reglab.reports.sweep import histogram_candidates, write
from reglab.reports.test_result import describe_runs
from reports.sweep_cases import sweep, trial

select = partial(select, rule="paired_1se")

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """Collects text, tags and attributes, and checks that every element is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.links, self.text = [], [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [v for k, v in attributes if k in ("href", "xlink:href", "src", "action") and v]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    data = sweep()
    choice = select(data.trials)
    test = {run.run_id: {"test/loss": 0.25 + run.seed / 100, "test/accuracy": 0.93} for run in choice.chosen.trials}
    report = write(data, choice, test, tmp_path_factory.mktemp("report") / "new")
    return report, report.path.read_text(encoding="utf-8")


def test_the_page_tells_when_overfitting_began(written):
    text = Page(written[1]).text
    assert "When overfitting began" in text
    assert "none: validation loss rises from epoch " in text
    assert "Learning curves" not in text


def test_the_page_is_well_formed_and_needs_nothing_else(written):
    _, text = written
    page = Page(text)
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert all(link.startswith("#") for link in page.links)
    assert "@import" not in text
    assert "url(http" not in text
    assert page.tags.count("svg") == 5


def test_the_page_answers_first_and_holds_what_a_reader_needs(written):
    report, text = written
    page = Page(text).text
    headline, *details = report.verdict.splitlines()
    assert page.index(headline) < page.index("All settings")
    for part in (
        *(detail.removeprefix("- ") for detail in details),
        "conditional on the trained model",
        "reglab train -m experiment=overfit",
    ):
        assert part in page
    assert "reglab train experiment=overfit 'regularizer=[dropout]' seed=0" in page
    assert "test accuracy 0.930; test loss 0.260 (runs: 0.250 to 0.270)" in page


def test_what_users_wrote_is_escaped(written):
    _, text = written
    assert "diverged at step 12 &lt;nan&gt;" in text
    assert "9f2c&lt;b&gt;" in text
    assert "<nan>" not in text


def test_hostile_names_stay_text(tmp_path):
    name = '"><script>alert(1)</script>'
    runs = tuple(trial("l1", s, 0.5, 0, block=name) for s in (0.1, 0.2))
    data = replace(sweep(), name=name, trials=runs, histories={}, weights={name: sweep().weights["none"]})
    page = Page(write(data, select(data.trials), None, tmp_path).path.read_text(encoding="utf-8"))
    assert "script" not in page.tags


def test_results_that_the_runs_hold_already_are_shown(tmp_path):
    data = sweep(["none", "l2"])
    held = tuple(replace(run, metrics={**run.metrics, "test/loss": 0.5}) for run in data.trials if run.metrics)
    report = write(replace(data, trials=held), select(held), None, tmp_path)
    assert "test loss 0.500" in report.note
    assert "had been touched before, for none, l2 1e-4, l2 0.01, l2 0.1" in report.note


def test_an_earlier_look_at_the_test_set_takes_its_word_back(tmp_path):
    data = replace(sweep(["none"]), earlier_test_uses=describe_runs(["first", "first", "alone"]))
    choice = select(data.trials)
    test = {run.run_id: {"test/loss": 0.5} for run in choice.chosen.trials}
    report = write(data, choice, test, tmp_path)
    printed = (
        "This test set was looked at before: 3 runs of first and alone, so this result is no longer untouched evidence."
    )
    assert report.tested == f"On the test set, none (3 runs): test loss 0.500. {printed}"
    assert printed in report.note
    assert Page(report.path.read_text(encoding="utf-8")).text.count(printed) == 2  # in the answer, and in the method
    assert describe_runs([]) == ""
    assert "touched once" in write(replace(data, earlier_test_uses=""), choice, test, tmp_path).tested


def test_the_command_of_one_run_can_be_pasted_into_a_shell(tmp_path):
    given = ("regularizer=[l1, dropout]", "+model.note='a b'")
    run = trial("none", None, 0.0, 0, overrides=given)
    data = replace(sweep(), trials=(run,), histories={}, weights={})
    text = Page(write(data, select(data.trials), None, tmp_path).path.read_text(encoding="utf-8")).text
    (line,) = (line for line in text.splitlines() if line.startswith("reglab train") and "note" in line)
    assert shlex.split(line) == ["reglab", "train", *given]
    data = replace(data, trials=(replace(run, overrides=()),))
    text = Page(write(data, select(data.trials), None, tmp_path).path.read_text(encoding="utf-8")).text
    assert "One run of the choice" not in text


def test_an_untouched_test_set_is_said_to_be(tmp_path):
    data = sweep(["none"])
    assert (
        "Not touched." in Page(write(data, select(data.trials), None, tmp_path).path.read_text(encoding="utf-8")).text
    )


def test_the_least_that_a_sweep_can_be_makes_a_report(tmp_path):
    run = trial("none", None, 0.0, 0, metrics={"val/loss": 0.5})
    data = replace(sweep(), trials=(run,), histories={}, weights={}, provenance={}, command="")
    report = write(data, select(data.trials), None, tmp_path)
    assert report.verdict.startswith("none: validation loss 0.500")
    Page(report.path.read_text(encoding="utf-8"))


def test_the_note_is_a_markdown_table_with_the_verdict(written):
    report, _ = written
    lines = report.note.splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1
    assert any("◀ choice" in line and "dropout" in line for line in table)
    assert lines[0].startswith("**dropout 0.3 cuts the gap in loss")


def test_portraits_are_baseline_choice_and_the_sparsest():
    assert [c.label for c in histogram_candidates(select(sweep().trials))] == ["none", "dropout 0.3", "l1+dropout 1e-4"]
