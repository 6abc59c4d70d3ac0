"""What a benchmark of this folder measures now, beside what it measures at another revision.

    python scripts/bench/revisions.py 9b035ea [--rounds 3] -- overhead.py --rounds 2

Each revision runs its own script on its own source, in fresh processes that alternate: a busy
machine slows both. A row is a figure of the script's ``--json``, as a ratio of now to then in the
same round: the median and the range over the rounds.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parents[2]


def figures(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, float]]:
    """Yield the name and value of each number in what a script wrote; of a list, its median."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from figures(value, (*path, str(key)))
    elif isinstance(node, list) and node and all(isinstance(value, int | float) for value in node):
        yield "/".join(path), median(node)
    elif isinstance(node, int | float) and not isinstance(node, bool):
        yield "/".join(path), node


def measured(tree: Path, script: str, options: list[str], folder: Path) -> dict[str, float]:
    """Run a script of the checkout ``tree`` and return its figures."""
    result = folder / "figures.json"
    environment = {**os.environ, "PYTHONPATH": str(tree / "src")}
    command = [sys.executable, str(tree / "scripts" / "bench" / script), *options, "--json", str(result)]
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    return dict(figures(json.loads(result.read_text())))


@contextmanager
def checkout(revision: str, folder: Path) -> Iterator[Path]:
    """Check a revision out beside this one."""
    tree = folder / "then"
    subprocess.run(["git", "-C", HERE, "worktree", "add", "--quiet", "--detach", tree, revision], check=True)
    try:
        yield tree
    finally:
        subprocess.run(["git", "-C", HERE, "worktree", "remove", "--force", tree], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("script")
    parser.add_argument("options", nargs="*", help="of the script, behind --")
    given = parser.parse_args()
    ratios: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name, checkout(given.revision, Path(name)) as tree:
        for _ in range(given.rounds):
            then, now = (measured(where, given.script, given.options, Path(name)) for where in (tree, HERE))
            for figure in then.keys() & now.keys():
                if then[figure]:
                    ratios.setdefault(figure, []).append(now[figure] / then[figure])
    shown = Table("figure", f"now / {given.revision}", "range", title=given.script)
    for figure, values in sorted(ratios.items()):
        if figure.startswith(("setting/", "machine/")):
            continue
        shown.add_row(figure, f"{median(values):.3f}", f"{min(values):.3f} to {max(values):.3f}")
    Console(width=120).print(shown)


if __name__ == "__main__":
    main()
