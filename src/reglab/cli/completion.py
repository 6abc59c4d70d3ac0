"""Tab completion of the ``reglab`` command.

Sub-commands, groups, options (inside lists too) and dotted keys.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from reglab.cli import config_options
from reglab.cli.completion_scripts import SCRIPTS

COMMANDS = (
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
FLAGS = {
    "": ("--help", "--version"),
    "train": ("--multirun", "--config-dir", "--config-name", "--cfg", "--resolve", "--help"),
    "report": ("--uri", "--help"),
    "rank-measures": ("--uri", "--gap", "--out", "--help"),
    "resume": ("--uri", "--here", "--help"),
    "predict": ("--uri", "--help"),
    "test": ("--uri", "--help"),
    "export": ("--uri", "--help"),
    "register": ("--uri", "--help"),
    "dashboard": ("--uri", "--port", "--host", "--allowed-hosts", "--auth", "--help"),
    "sync": ("--uri", "--rebuild", "--help"),
    "clean": ("--uri", "--yes", "--help"),
}
CLAIMS = ("noise", "gap", "tradeoff", "l1_zeros", "l2_spread", "choice")
_CLAIM_KEYS = ("repetitions=", "counterexample=true", "out=")
_TAKE_RUNS = ("resume", "predict", "test", "export", "register", "rank-measures", "sync", "clean")
_RUNS = 20  # the latest ones
_PREFIX = re.compile(r"[+~]{0,2}")


def complete(line: str, folders: Sequence[Path]) -> list[str]:
    """Return the completions of the last word of ``line`` (the command line up to the cursor).

    A completion that continues ends in ``=`` or ``.``; the shell then adds no space.
    """
    tokens = line.split()
    token = "" if not tokens or line[-1:].isspace() else tokens.pop()
    if len(tokens) <= 1:
        return _with_prefix(token, [*COMMANDS, *FLAGS[""]])
    command, *arguments = tokens[1:]
    if token.startswith("-"):
        return _with_prefix(token, FLAGS.get(command, ("--help",)))
    if command == "completion":
        return _with_prefix(token, SCRIPTS)
    if command == "claims":
        return _with_prefix(token, [*CLAIMS, *_CLAIM_KEYS])
    if command in _TAKE_RUNS:
        return _with_prefix(token, _recent())
    if command == "train":
        return _override(token, [*folders, *config_dirs(arguments)], _choices(arguments))
    return []


def _recent() -> list[str]:
    """Return the latest runs and sweeps below the working folder, the newest first."""
    return [str(path) for path in sorted(Path("runs").glob("*/*"), reverse=True)[:_RUNS]]


def config_dirs(arguments: Sequence[str]) -> list[Path]:
    """Return the folders that ``--config-dir`` (``-cd``) names."""
    flags = ("--config-dir", "-cd")
    apart = [Path(value) for flag, value in pairwise(arguments) if flag in flags]
    return apart + [Path(argument.partition("=")[2]) for argument in arguments if argument.startswith("--config-dir=")]


def _override(token: str, folders: Sequence[Path], choices: config_options.Choices) -> list[str]:
    match = _PREFIX.match(token)
    sign = match.group() if match else ""
    name, equals, value = token[len(sign) :].partition("=")
    if equals:
        head, last = _last_option(value)
        taken = set(re.split(r"[\[\],]", head))
        options = [option for option in config_options.options(folders, name) if option not in taken]
        return [f"{sign}{name}={head}{option}" for option in options if option.startswith(last)]
    chosen = {**config_options.defaults(folders), **choices}
    names = {f"{group}=" for group in config_options.groups(folders)}
    names |= {f"{key}=" for key in config_options.keys(folders, chosen)}
    return [f"{sign}{found}" for found in _by_level(name, names)]


def _last_option(value: str) -> tuple[str, str]:
    """Split ``[l1,dr`` into what is complete (``[l1,``) and the option being typed (``dr``)."""
    end = max(value.rfind("["), value.rfind(",")) + 1
    return value[:end], value[end:]


def _by_level(typed: str, names: Iterable[str]) -> list[str]:
    """Offer dotted keys one level at a time: ``optimizer.`` before ``optimizer.lr=``."""
    offers = set()
    for name in names:
        if name.startswith(typed):
            dot = name.find(".", len(typed))
            offers.add(name if dot < 0 else name[: dot + 1])
    return sorted(offers)


def _choices(arguments: Sequence[str]) -> dict[str, list[str]]:
    """Return what the command line chooses so far; a swept value chooses all of its options."""
    pairs = (argument.lstrip("+").partition("=") for argument in arguments if "=" in argument)
    return {name: [option for option in re.split(r"[\[\],\s]", value) if option] for name, _, value in pairs}


def _with_prefix(prefix: str, names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(prefix))
