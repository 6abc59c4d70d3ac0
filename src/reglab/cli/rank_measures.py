"""Sub-command ``rank-measures``."""

from collections.abc import Sequence
from pathlib import Path

from reglab.cli.questions import asker
from reglab.cli.report_dashboard import given_uri, reading_parser
from reglab.core.errors import UserError


def rank_measures(arguments: Sequence[str]) -> int:
    """Print how well each recorded number of some sweeps' runs predicts their gaps.

    Raises:
        UserError: Where there is nothing to rank, or the file cannot be written.
    """
    parser = reading_parser(
        "rank-measures", "Rank what finished runs recorded by how well it predicts their overfitting gaps."
    )
    parser.add_argument("sweeps", nargs="+", metavar="SWEEP", help="a sweep's run id, its name, or its folder")
    parser.add_argument("--gap", default="gap/loss", metavar="NAME", help="what to predict; default: gap/loss")
    parser.add_argument("--out", type=Path, default=None, metavar="FILE.csv", help="write the whole ranking there, too")
    options = parser.parse_args(arguments)
    if options.out is not None:
        _check_out(options.out)
    from rich.console import Console

    from reglab.analysis.measure_ranking import rank_measures as rank
    from reglab.core.atomic_write import write
    from reglab.core.secrets import hide
    from reglab.reports.measure_ranking import csv_text, sentences, table, trials_of
    from reglab.tracking.store_gate import asking

    with asking(asker()):
        ranking = rank(trials_of(given_uri(options.uri), options.sweeps), options.gap)
    console = Console()
    console = console if console.is_terminal else Console(width=120)
    console.print(table(ranking))
    console.print(sentences(ranking), highlight=False, markup=False)
    if options.out is not None:
        write(options.out, hide(csv_text(ranking)))
        console.print(f"Ranking: {options.out}", highlight=False, markup=False, soft_wrap=True)
    return 0


def _check_out(path: Path) -> None:
    if path.suffix.lower() != ".csv":
        raise UserError(f"--out {path}: let its name end in .csv")
    if path.exists():
        raise UserError(f"{path} is there already: give another name by --out FILE.csv, or remove it")
    if not path.parent.is_dir():
        raise UserError(f"--out {path}: there is no folder {path.parent}: make it first")
