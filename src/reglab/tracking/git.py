"""Git commit, branch and state of the checkout, as MLflow tags.

The checkout may be somebody else's, and its ``.git/config`` can name programs that git runs. Each of
them is switched off, and git gets no variables but those that it needs.
"""

import os
import subprocess
from functools import lru_cache
from pathlib import Path

# What a repository's own config can make ``git status`` run or fetch, and a folder that looks like a repository.
_SETTINGS = ("core.fsmonitor=false", "core.hooksPath=/dev/null", "protocol.allow=never", "safe.bareRepository=explicit")
_GIT = ["git", "--no-pager", "--no-optional-locks", *(part for each in _SETTINGS for part in ("-c", each))]
_STATUS = ["status", "--porcelain=v2", "--branch", "--untracked-files=no", "--ignore-submodules=dirty"]
_FILTERS = ["config", "--null", "--show-scope", "--name-only", "--get-regexp", r"^filter\."]
_KEPT = ("PATH", "HOME", "XDG_CONFIG_HOME", "SYSTEMROOT", "TMPDIR")  # the user's own config says what is safe
_FIXED = {
    "LC_ALL": "C",
    "GIT_OPTIONAL_LOCKS": "0",  # workers ask at the same time
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_NO_LAZY_FETCH": "1",
}


@lru_cache
def git_tags(folder: Path) -> dict[str, str]:
    """Return MLflow's tags for commit, branch and uncommitted changes around ``folder``.

    Empty where there is no checkout, no commit, or no git. Untracked files do not count as changes,
    and of a submodule its commit alone does: git would run in it, by its own config.
    """
    filters = _filters(folder)
    text = None if filters is None else _git(folder, [*_off(filters), *_STATUS])
    if text is None:
        return {}
    lines = [line.split(" ", 2) for line in text.splitlines()]
    heads = {fields[1]: fields[2] for fields in lines if fields[0] == "#"}
    commit = heads.get("branch.oid", "(initial)")
    if commit == "(initial)":
        return {}
    return {
        "mlflow.source.git.commit": commit,
        "mlflow.source.git.branch": heads.get("branch.head", ""),
        "mlflow.source.git.dirty": str(any(fields[0] != "#" for fields in lines)).lower(),
    }


def _filters(folder: Path) -> set[str] | None:
    """Return the filters (programs that convert files) that the repository itself configures.

    None where they cannot be told, or have names that no option could switch off.
    """
    text = _git(folder, _FILTERS, none_found=1)
    if text is None:
        return None
    words = text.split("\0")
    own = [key for scope, key in zip(words[::2], words[1::2], strict=False) if scope in ("local", "worktree")]
    names = {key.partition(".")[2].rpartition(".")[0] for key in own}
    return None if any("=" in name or "\n" in name for name in names) else names


def _off(filters: set[str]) -> list[str]:
    settings = ("clean=", "smudge=", "process=", "required=false")
    return [part for name in sorted(filters) for each in settings for part in ("-c", f"filter.{name}.{each}")]


def _git(folder: Path, words: list[str], none_found: int = 0) -> str | None:
    """Return what git prints; None where it fails, unless with the code ``none_found``."""
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ} | _FIXED
    try:
        process = subprocess.run([*_GIT, *words], cwd=folder, env=environment, capture_output=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return process.stdout.decode(errors="replace") if process.returncode in (0, none_found) else None
