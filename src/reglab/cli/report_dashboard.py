"""Sub-commands ``report`` and ``dashboard``."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from reglab.cli.questions import asker
from reglab.core.errors import UserError
from reglab.tracking.settings import absolute_uri, redacted
from reglab.tracking.store_gate import name_store


def report(arguments: Sequence[str]) -> int:
    """Write the report of a sweep again from MLflow, or of an experiment, and print its summary.

    Raises:
        UserError: Where there is nothing to report on.
    """
    parser = reading_parser(
        "report",
        "Write the report of a sweep again, also of one that was interrupted; or of all runs of an experiment.",
    )
    parser.add_argument("sweep", nargs="?", help="the sweep's run id, its name, or its folder under runs/")
    parser.add_argument("--experiment", default=None, metavar="NAME", help="an MLflow experiment instead of a sweep")
    parser.add_argument("--folder", type=Path, default=None, help="where report.html goes; default: the working folder")
    parser.add_argument("--rule", default=None, help="choose by another rule: best, paired_1se or 1se")
    options = parser.parse_args(arguments)
    if (options.sweep is None) == (options.experiment is None):
        raise UserError("give a sweep, as in reglab report RUN, or an experiment: reglab report --experiment NAME")
    from reglab.reports.sweep import report as write
    from reglab.reports.sweep import report_experiment
    from reglab.sweeps.finish import show
    from reglab.tracking.mlflow.read import find_run
    from reglab.tracking.store_gate import asking

    with asking(asker()):
        uri, folder = given_uri(options.uri), options.folder or Path.cwd()
        if options.experiment is not None:
            show(uri, report_experiment(uri, options.experiment, folder, options.rule))
            return 0
        parent = find_run(uri, options.sweep)
        show(parent.uri, *write(parent.uri, parent.run_id, folder, options.rule))
    return 0


def dashboard(arguments: Sequence[str]) -> int:
    """Run MLflow's dashboard until it is interrupted."""
    parser = reading_parser(
        "dashboard", "Open MLflow's dashboard of your runs; by default only this machine can reach it."
    )
    parser.add_argument("--port", type=int, default=5000, help="the first port to try")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on; default: this machine only")
    parser.add_argument(
        "--allowed-hosts", default="", metavar="NAMES", help="the host names that it accepts, with commas"
    )
    parser.add_argument(
        "--auth", type=Path, default=None, metavar="FILE", help="MLflow's basic-auth config: who may log in"
    )
    options = parser.parse_args(arguments)
    from reglab.tracking.admin.dashboard import serve
    from reglab.tracking.admin.dashboard_access import Access

    allowed = tuple(name.strip() for name in options.allowed_hosts.split(",")) if options.allowed_hosts else ()
    access = Access(options.host, options.auth, allowed)
    return serve(given_uri(options.uri), options.port, access)


def given_uri(uri: str | None) -> str:
    """Return the store of ``--uri``, which the user named by it; else the default.

    The latter is that of MLFLOW_TRACKING_URI, or ``reglab.db`` in the working folder.

    Raises:
        UserError: Where it holds a password, which the list of processes and the shell's history
            would keep.
    """
    if uri is not None and redacted(uri) != uri:
        raise UserError(
            f"--uri {redacted(uri)} was given with a name or password, which other users of this machine can read: "
            "leave it out, and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    store = absolute_uri(uri, Path.cwd())
    if uri is not None:
        name_store(store)
    return store


def reading_parser(command: str, description: str) -> argparse.ArgumentParser:
    """Return the argument parser of a sub-command that reads a store."""
    parser = argparse.ArgumentParser(prog=f"reglab {command}", description=description)
    parser.add_argument("--uri", default=None, help="the MLflow store; default: reglab.db in the working folder")
    return parser
