"""The ``reglab`` command. Only what a sub-command needs is imported.

Help and completion answer at once.
"""

import os
import sys
from collections.abc import Sequence

from reglab.core.descriptors import raise_limit
from reglab.core.errors import UserError, is_full_disk, is_recorded, nearest
from reglab.core.output import prepare_output

_FAILED, _WRONG_USE = 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    0: success; 1: a job failed or something was not delivered; 2: wrong use; 130: ended by Ctrl-C;
    143: ended by SIGTERM; 129: its terminal hung up. Output that nobody takes changes none of them.
    """
    prepare_output()
    raise_limit()
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(argv)
    except UserError as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        from reglab.processes import rank_environment

        if rank_environment.reports_end(str(error)):
            print(f"reglab: {error}", file=sys.stderr, flush=True)
        return _FAILED if is_recorded(error) else _WRONG_USE  # a user's code may raise the class, too
    except KeyboardInterrupt as interrupt:
        from reglab.processes import rank_environment

        if not getattr(interrupt, "reported", False) and rank_environment.reports_end():
            training = argv[:1] == ["train"]
            more = "; give the same command again (of a sweep, only what is left is run)" if training else ""
            print(f"reglab: interrupted{more}", file=sys.stderr)
        return 128 + getattr(interrupt, "number", 2)
    except OSError as error:
        if not is_full_disk(error) or os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        hint = "" if "resume" in str(error) else ". Free some disk space, then run reglab resume"
        print(f"reglab: {error}{hint}", file=sys.stderr)
        return _FAILED


def _dispatch(arguments: list[str]) -> int:
    command, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if command in ("--help", "-h", "help"):
        return _print(_overview())
    if command == "--version":
        from importlib.metadata import version

        return _print(f"reglab {version('reglab')}")
    if command == "train":
        return _train(rest)
    if command == "completion":
        return _completion(rest)
    if command == "resume":
        from reglab.cli.resume import resume

        return resume(rest)
    if command == "predict":
        from reglab.cli.predict import predict

        return predict(rest)
    if command == "test":
        from reglab.cli.test import test

        return test(rest)
    if command in ("export", "register"):
        from reglab.cli import export

        return export.export(rest) if command == "export" else export.register(rest)
    if command in ("report", "dashboard"):
        from reglab.cli import report_dashboard

        return report_dashboard.report(rest) if command == "report" else report_dashboard.dashboard(rest)
    if command == "claims":
        from reglab.cli.claims import claims

        return claims(rest)
    if command == "rank-measures":
        from reglab.cli.rank_measures import rank_measures

        return rank_measures(rest)
    if command in ("sync", "clean"):
        from reglab.cli import sync_clean

        return sync_clean.sync(rest) if command == "sync" else sync_clean.clean(rest)
    valid = (
        "train",
        "resume",
        "predict",
        "test",
        "export",
        "register",
        "report",
        "rank-measures",
        "dashboard",
        "claims",
        "sync",
        "clean",
        "completion",
    )
    raise UserError(f"unknown command {command!r}: {nearest(command, valid)} (reglab --help)")


def _train(arguments: list[str]) -> int:
    if "--help" in arguments or "-h" in arguments:
        from reglab.cli.completion import config_dirs
        from reglab.cli.help import train_help
        from reglab.config.paths import conf_dir

        return _print(train_help([conf_dir(), *config_dirs(arguments)]))
    from reglab.cli.train import train

    return train(arguments)


def _completion(arguments: list[str]) -> int:
    from reglab.cli.completion_scripts import INSTALL, SCRIPTS

    if arguments[:1] == ["query"]:
        from reglab.cli.completion import complete
        from reglab.config.paths import conf_dir

        return _print("\n".join(complete(" ".join(arguments[1:]), [conf_dir()])))
    if len(arguments) != 1 or arguments[0] not in SCRIPTS:
        lines = [f"  {shell}: {how}" for shell, how in INSTALL.items()]
        raise UserError("usage: reglab completion bash|zsh|fish\n" + "\n".join(lines))
    return _print(SCRIPTS[arguments[0]])


def _overview() -> str:
    from reglab.cli.help import OVERVIEW

    return OVERVIEW


def _print(text: str) -> int:
    sys.stdout.write(text if text.endswith("\n") or not text else f"{text}\n")
    sys.stdout.flush()
    return 0
