"""What one GPU shows, part by part, each in a process of its own.

Parity and speed, half precision, sharding, waits.

    scripts/bench/gpu_check [--budget 480] [--folder gpu_check] [--device cuda|cpu] [--quick] [PART
        ...]

Each part leaves FOLDER/PART.json. Given again, the command does the parts that are left, or that
another device, size or torch left there; --again does them all. A part that does not end within the
budget is killed, and said to be. --quick --device cpu tries all of it small, where there is no GPU.
Several GPUs over NCCL were never tried, by this command or otherwise: what several ranks do is held
by tests over gloo, on CPUs.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

NEVER = "Several GPUs over NCCL were never tried: several ranks are held by tests over gloo, on CPUs."
_LEAST = 15.0  # seconds: no part is begun with less


def slug(part: str) -> str:
    return re.sub(r"\W+", "-", part)


def setting(quick: bool) -> dict[str, Any]:
    """Return what a figure is of, besides the part: another one's is no answer."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"gpu": gpu, "cpu": platform.machine(), "torch": torch.__version__, "quick": quick}


def do(part: str, quick: bool, path: Path) -> None:
    """Do one part in this process, and keep what it found."""
    from gpu_check_parts import PARTS
    from overhead import machine

    begin = time.perf_counter()
    rows = PARTS[part](quick)
    found = {"part": part, "setting": setting(quick), "machine": machine(), "rows": rows}
    found["seconds"] = time.perf_counter() - begin
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def kept(path: Path, wanted: dict[str, Any]) -> dict[str, Any] | None:
    """Return what an earlier command found, if it is an answer to this one."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if found.get("setting") == wanted else None


def table(found: dict[str, Any], console: Console) -> None:
    shown = Table(found["part"], "figure", "", title_justify="left")
    shown.columns[1].justify = "right"
    for name, figure, said in found["rows"]:
        shown.add_row(name, figure if isinstance(figure, str) else f"{figure:.4g}", said)
    console.print(shown)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="all, if none is named; --list shows them")
    parser.add_argument("--budget", type=float, default=480.0, help="seconds")
    parser.add_argument("--folder", type=Path, default=Path("gpu_check"))
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--quick", action="store_true", help="small sizes, to try the command itself")
    parser.add_argument("--again", action="store_true", help="also what is done already")
    parser.add_argument("--list", action="store_true", help="print the parts, and do nothing")
    parser.add_argument("--do", metavar="PART", help=argparse.SUPPRESS)  # in a process of its own
    options = parser.parse_args()
    if options.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if options.do:
        do(options.do, options.quick, options.folder / f"{slug(options.do)}.json")
        return 0
    from gpu_check_parts import names

    known = names(options.quick)
    if options.list:
        print("\n".join(known))
        return 0
    if unknown := [part for part in options.parts if part not in known]:
        parser.error(f"no such part: {', '.join(unknown)}; --list shows them")
    wanted = setting(options.quick)
    if options.device == "cuda" and wanted["gpu"] is None:
        parser.error("there is no GPU here; --device cpu --quick tries the command itself")
    options.folder.mkdir(parents=True, exist_ok=True)
    return check(options, options.parts or known, wanted)


def check(options: argparse.Namespace, parts: list[str], wanted: dict[str, Any]) -> int:
    """Do what is left of ``parts`` and print everything.

    Return 0, or 1 where a part failed or was not done.
    """
    console, begin, missed = Console(width=120), time.monotonic(), []
    console.print(", ".join(f"{key} {value}" for key, value in wanted.items()), highlight=False)
    for part in parts:
        path = options.folder / f"{slug(part)}.json"
        if options.again or kept(path, wanted) is None:
            path.unlink(missing_ok=True)
            left = options.budget - (time.monotonic() - begin)
            why = in_a_process(part, options, left) if left > _LEAST else "not begun: the budget is used up"
            if why:
                missed.append(part)
                console.print(f"{part}: {why}", highlight=False)
                continue
        found = kept(path, wanted)
        if found:
            table(found, console)
    console.print(NEVER, highlight=False)
    if missed:
        console.print(f"Not done: {', '.join(missed)}. Run the same command again to continue.", highlight=False)
    return 1 if missed else 0


def in_a_process(part: str, options: argparse.Namespace, seconds: float) -> str:
    """Do ``part`` in a fresh process, for so long at most.

    Return why it did not end well, or nothing.
    """
    words = [sys.executable, __file__, "--do", part, "--folder", str(options.folder), "--device", options.device]
    try:
        done = subprocess.run(
            [*words, *(["--quick"] if options.quick else [])],
            timeout=seconds, capture_output=True, text=True, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"killed after {seconds:.0f} s, at the end of the budget"
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-12:]
        return f"failed (exit code {done.returncode}):\n  " + "\n  ".join(last)
    return ""


if __name__ == "__main__":
    sys.exit(main())
