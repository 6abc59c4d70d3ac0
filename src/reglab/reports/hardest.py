"""The section of a sweep's report on the rows that are hardest."""

from reglab.analysis.formatting import number, percent, plural
from reglab.analysis.hardest_rows import HardRow, hardest_rows, share_of_hardest
from reglab.analysis.per_example_file import Examples
from reglab.analysis.selection import Candidate, Choice
from reglab.analysis.sweep_data import SweepData
from reglab.reports.section import Section

_MOST = 10
_IN_GROUPS = "survival"  # whose loss compares rows, so that none has one of its own


def hardest(data: SweepData, choice: Choice) -> Section | None:
    """Return the validation rows that the chosen setting finds hardest; None without losses by row.

    Args:
        data: Of the sweep.
        choice: The choice.
    """
    results = _results(data, choice.chosen)
    if not results or data.task.startswith(_IN_GROUPS):
        return None
    plain = {}
    if choice.baseline is not None and choice.baseline is not choice.chosen:
        before = _results(data, choice.baseline)
        plain = {row.index: row.loss for row in hardest_rows(before, count=10**9)} if before else {}
    sentences = [_row(row, plain, data.score) for row in hardest_rows(results, _MOST)]
    share = share_of_hardest(results)
    if share is not None:
        sentences.insert(0, f"The hardest tenth of the rows carries {percent(share)} of the validation loss.")
    return Section(
        "The rows that are hardest",
        tuple(sentences),
        f"Validation rows by their mean loss over the runs of {choice.chosen.label}, numbered from 0 in the whole data "
        "set. Look at them: wrong labels and outliers come first. The tenth is chosen by half of the runs, and its "
        "share is that in the other half.",
    )


def _results(data: SweepData, candidate: Candidate) -> list[Examples]:
    return [data.results[trial.run_id] for trial in candidate.trials if trial.run_id in data.results]


def _row(row: HardRow, plain: dict[int, float], score: str) -> str:
    text = f"Row {row.index}: loss {number(row.loss)}"
    if row.index in plain:
        text += f", {number(plain[row.index])} without a regularizer"
    if score == "accuracy":
        text += f"; wrong in {row.missed} of {plural(row.runs, 'run')}"
    return f"{text}."
