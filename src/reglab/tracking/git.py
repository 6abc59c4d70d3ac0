"""Git commit, branch and state of the checkout, as MLflow tags."""

import os
import subprocess
from functools import lru_cache
from pathlib import Path


@lru_cache
def git_tags(folder: Path) -> dict[str, str]:
    """Return MLflow's tags for commit, branch and uncommitted changes around ``folder``.

    Empty where there is no checkout, no commit, or no git. Untracked files do not count as changes.
    """
    command = ["git", "status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}  # workers ask at the same time
    try:
        process = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    lines = [line.split(" ", 2) for line in process.stdout.splitlines()]
    heads = {fields[1]: fields[2] for fields in lines if fields[0] == "#"}
    commit = heads.get("branch.oid", "(initial)")
    if process.returncode or commit == "(initial)":
        return {}
    return {
        "mlflow.source.git.commit": commit,
        "mlflow.source.git.branch": heads.get("branch.head", ""),
        "mlflow.source.git.dirty": str(any(fields[0] != "#" for fields in lines)).lower(),
    }
