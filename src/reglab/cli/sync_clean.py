"""Sub-commands ``sync`` and ``clean``."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from reglab.cli.questions import asker
from reglab.cli.report_dashboard import given_uri
from reglab.core.errors import UserError
from reglab.tracking.admin.find import RUNS


def sync(arguments: Sequence[str]) -> int:
    """Send to MLflow what it does not have yet.

    Return 0, or 1 where something could not be delivered.
    """
    parser = _parser(
        "sync",
        "Send to MLflow what it does not have yet: runs made with tracking=offline, and what waited for a store that "
        "was away. Runs whose process is gone are ended KILLED; running ones are left alone. It can be given again at "
        "any time: nothing is sent twice.",
    )
    parser.add_argument("--uri", default=None, help="where offline runs go; default: the store they were meant for")
    parser.add_argument(
        "--rebuild", action="store_true", help="also make and send again the runs that their store has lost"
    )
    options = parser.parse_args(arguments)
    from reglab.tracking.admin.sync import sync as deliver
    from reglab.tracking.store_gate import asking

    uri = None if options.uri is None else given_uri(options.uri)
    with asking(asker()):
        return 0 if deliver(_folders(options.folders), uri, rebuild=options.rebuild).complete else 1


def clean(arguments: Sequence[str]) -> int:
    """Show the disk usage of runs and, if confirmed, free what is not needed; return 0."""
    parser = _parser(
        "clean",
        "Show how much the runs hold and what of it nothing needs any more: leftovers of crashes, earlier checkpoints "
        "of finished runs, checkpoints of finished packs, and runs that were deleted in MLflow. Nothing is removed "
        "without a yes. Running runs, and what MLflow does not have yet, are never touched.",
    )
    parser.add_argument("--uri", default=None, help="where runs are kept; default: reglab.db in the working folder")
    parser.add_argument("--yes", action="store_true", help="do not ask, as for scripts")
    options = parser.parse_args(arguments)
    from reglab.tracking.admin.clean import clean as free

    ask = (lambda question: True) if options.yes else asker()
    return free(_folders(options.folders), given_uri(options.uri), ask)


def _folders(given: Sequence[Path]) -> list[Path]:
    if not given and not RUNS.is_dir():
        raise UserError(f"there is no folder {RUNS}/ here: give the folder of a run or sweep, or one above it")
    return list(given) or [RUNS]


def _parser(command: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"reglab {command}", description=description)
    parser.add_argument(
        "folders",
        nargs="*",
        type=Path,
        metavar="FOLDER",
        help="of runs or sweeps; default: runs/ in the working folder",
    )
    return parser
