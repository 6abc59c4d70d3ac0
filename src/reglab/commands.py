"""The sub-commands that read what was run: ``report`` and ``dashboard``."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from reglab.tracking.settings import absolute_uri


def report(words: Sequence[str]) -> int:
    """Write the report of a sweep again, from what MLflow holds, and print what a sweep prints at its end."""
    parser = _parser("report", "Write the report of a sweep again, also of one that was interrupted.")
    parser.add_argument("sweep", help="the sweep's run id, its name, or its folder under runs/")
    parser.add_argument("--folder", type=Path, default=None, help="where report.html goes; default: the working folder")
    arguments = parser.parse_args(words)
    from reglab.reports.sweep import report as write
    from reglab.sweeps.finish import show
    from reglab.tracking.mlflow_read import find_run

    uri = absolute_uri(arguments.uri, Path.cwd())
    parent = find_run(uri, arguments.sweep)
    show(write(parent.uri, parent.run_id, arguments.folder or Path.cwd()), parent.uri)
    return 0


def dashboard(words: Sequence[str]) -> NoReturn:
    """Become MLflow's dashboard, until it is interrupted."""
    parser = _parser("dashboard", "Open MLflow's dashboard over what was run, on this machine only.")
    parser.add_argument("--port", type=int, default=5000, help="the first port to try")
    arguments = parser.parse_args(words)
    from reglab.tracking.dashboard import serve

    serve(absolute_uri(arguments.uri, Path.cwd()), port=arguments.port)


def _parser(command: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"reglab {command}", description=description)
    parser.add_argument("--uri", default=None, help="where runs are kept; default: reglab.db in the working folder")
    return parser
