"""What a report says of learning curves and of when overfitting began."""

from dataclasses import replace

import numpy as np
import pytest

from reglab.analysis.per_example_file import Examples
from reglab.analysis.selection import select
from reglab.analysis.sweep_data import SweepData
from reglab.reports.hardest import hardest
from reglab.reports.sections import learning_curves, onsets, sections, told
from reglab.reports.sweep import write
from reports.sweep_cases import sweep, trial

SIZES = (50, 100, 200, 400)


def over_sizes(sizes=SIZES, helps=0.6):
    """Runs without a regularizer that follow 0.1 + 5 / sqrt(rows), and with l2, which is better by a factor."""
    random, runs = np.random.default_rng(0), []
    for size in sizes:
        for block, strength, factor in (("none", None, 1.0), ("l2", 0.01, helps)):
            for seed in range(3):
                run = trial(block, strength, 0.5, seed, run_id=f"{block}-{size}-{seed}")
                loss = factor * (0.1 + 5 / size**0.5) * (1 + 0.01 * random.normal())
                params = {**run.params, "data.train_size": str(size)}
                runs.append(replace(run, params=params, metrics={**run.metrics, "val/loss": loss}))
    data = SweepData(name="sizes", trials=tuple(runs))
    return data, select(data.trials)


ANSWERS = {
    0.6: "the regularizer helps more",
    0.95: "twice the rows would help more",
    1.1: "no regularizer helped there",
    0.787: "which of the two helps more is not known",
}


@pytest.mark.parametrize("helps, answer", ANSWERS.items())
def test_twice_the_rows_are_compared_with_the_best_regularizer(helps, answer):
    section = learning_curves(*over_sizes(helps=helps))
    first, *laws = section.sentences
    assert first.startswith("Twice the rows (800) would bring none from 0.3")
    assert "the best regularizer with 400 rows, l2 0.01, has" in first
    assert first.endswith(f"{answer}.")
    assert [law.partition(":")[0] for law in laws] == ["none", "l2 0.01"]
    assert all("from 50 to 400 rows; at 800 rows it would be" in law for law in laws)
    assert told([section]) == ("\n".join(["Learning curves", *(f"- {each}" for each in section.sentences)]),)


def test_too_few_sizes_are_said_and_one_size_is_no_section():
    section = learning_curves(*over_sizes(SIZES[:3]))
    assert section.sentences[0] == ("none: a learning curve needs runs of at least 4 different data.train_size, got 3.")
    assert learning_curves(*over_sizes(SIZES[:1])) is None
    data = sweep()
    assert learning_curves(data, select(data.trials)) is None


def test_the_onset_is_told_of_the_settings_that_are_drawn():
    data = sweep(("none", "dropout"))
    choice = select(data.trials, rule="paired_1se")
    section = onsets(data, choice)
    assert section.sentences[0].startswith("none: validation loss rises from epoch ")
    assert section.sentences[0].endswith("seen in 3 of 3 runs.")
    assert told([section]) == ()
    short = {run: {"val/loss": metrics["val/loss"][:9]} for run, metrics in data.histories.items()}
    assert sections(replace(data, histories=short), choice) == ()


def test_the_page_and_the_terminal_have_the_learning_curves(tmp_path):
    report = write(*over_sizes(), None, tmp_path)
    assert "Twice the rows (800)" in report.path.read_text(encoding="utf-8")
    assert any(isinstance(each, str) and "Twice the rows (800)" in each for each in report.more)


def with_losses(task="classification"):
    """A sweep whose runs find row 3 the hardest."""
    data, random = sweep(), np.random.default_rng(0)
    results = {}
    for each in data.trials:
        losses = random.exponential(size=40)
        losses[3] = 30.0 if each.regularizer == "none" else 20.0
        index = np.arange(40)
        results[each.run_id] = Examples(index, losses, (losses < 5).astype(float), index, losses, losses)
    return replace(data, results=results, task=task)


def test_the_hardest_rows_of_the_chosen_setting_are_shown_beside_those_without_a_regularizer(tmp_path):
    data = with_losses()
    section = hardest(data, select(data.trials))
    assert section.sentences[0].startswith("The hardest tenth of the rows carries ")
    assert section.sentences[1].startswith("Row 3: loss 20, 30 without a regularizer; wrong in ")
    assert len(section.sentences) == 11
    assert sections(data, data.choose())[-1].title == "The rows that are hardest"
    report = write(data, select(data.trials), None, tmp_path)
    assert "Row 3: loss 20" in report.path.read_text(encoding="utf-8")
    assert hardest(with_losses("survival"), select(data.trials)) is None
    assert hardest(sweep(), select(data.trials)) is None
