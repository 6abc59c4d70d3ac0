import io
from functools import partial

from rich.console import Console

from reglab.analysis.selection import select
from reglab.analysis.sweep_data import SweepData
from reglab.reports.terminal import MOST_ROWS, table
from reports.sweep_cases import sweep, trial

select = partial(select, rule="paired_1se")


def printed(data, width=100):
    console = Console(file=io.StringIO(), width=width)
    console.print(table(data, select(data.trials)))
    return console.file.getvalue()


def row_of(text, *arguments):
    (line,) = (line for line in text.splitlines() if line.split()[: len(arguments)] == list(arguments))
    return line


def test_the_table_fits_and_marks_the_choice():
    text = printed(sweep(), width=200)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 100
    assert "◀ choice" in row_of(text, "dropout", "0.3")
    assert text.count("◀") == 1
    assert "underfits" in row_of(text, "l1", "0.01")
    assert "2/3" in row_of(text, "max_norm", "0.5")


def test_a_row_says_the_means_of_its_runs():
    text = printed(sweep())
    for shown in ("0.330 ±0.021", "0.930", "0.992", "0.251 [0.205, 0.306]", "39.2%"):
        assert shown in row_of(text, "l1", "1e-4")


def test_long_names_wrap_and_numbers_stay_whole():
    runs = tuple(trial("l1", 1e-4, 0.5, seed, block="elastic_net+label_smoothing+dropout") for seed in range(2))
    text = printed(SweepData("long", runs))
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 100
    assert "±" in text
    assert "…" not in text


def test_of_many_settings_the_best_are_kept_and_the_rest_counted():
    runs = tuple(trial("l1", 1e-4 * (i + 1), i / 60, 0) for i in range(60))
    text = printed(SweepData("many", runs))
    assert sum(line.startswith("l1") for line in text.splitlines()) == MOST_ROWS
    assert f"{60 - MOST_ROWS} more settings are in the report" in text


def test_markup_in_names_is_only_text():
    text = printed(SweepData("[red]x[/red]", (trial("l1", 0.1, 0.5, 0, block="[b]l1"),)))
    assert "[b]l1" in text
    assert "[red]x[/red]" in text
