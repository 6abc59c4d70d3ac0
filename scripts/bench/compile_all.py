"""What it takes to compile a pack of every regularizer, and of every pair.

Seconds of a child process, nodes, speed.

    python scripts/bench/compile_all.py [--pairs] [--members 6] [--seconds 120] [--only mixup
        dropout]

The main job's model (an MLP 256-256 on digits). Caches of earlier runs count, unless
TORCHINDUCTOR_CACHE_DIR names an empty folder. It ends with code 1 where one is not compiled within
``--seconds``.
"""

import argparse
import sys
import time
from itertools import combinations
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from rich.console import Console
from rich.table import Table

from reglab.config.pack_settings import PackSettings
from reglab.config.paths import conf_dir
from reglab.core.errors import UserError
from reglab.training.fused.job import prepare_jobs
from reglab.training.fused.pack import Pack

COMMON = ("data=digits", "data.train_size=200", "model.width=256", "model.depth=2", "tracking=none")


def made(names: tuple[str, ...], members: int, seconds: float) -> Pack:
    words = [*COMMON, "trainer.accelerator=cpu", f"regularizer=[{','.join(names)}]"]
    with initialize_config_dir(str(conf_dir().resolve()), version_base="1.3"):
        configs = [compose("train", [*words, f"seed={seed}"]) for seed in range(members)]
    experiments = [job.experiment for job in prepare_jobs(configs)]
    pack = Pack(experiments, PackSettings(compile_seconds=seconds))
    pack.to(torch.device("cpu"))
    return pack


def pace(pack: Pack, steps: int = 60) -> float:
    """Return the milliseconds of a step: the median of some."""
    rows, taken = next(iter(pack.loader))[0], []
    numbers = pack.numbers(0, pack.schedules.numbers(0, 1))[0]
    for _ in range(steps):
        begin = time.perf_counter()
        pack.step(rows, numbers)
        taken.append(time.perf_counter() - begin)
    return sorted(taken)[steps // 2] * 1e3


def measured(names: tuple[str, ...], options: argparse.Namespace) -> list[str]:
    begin = time.perf_counter()
    pack = made(names, options.members, options.seconds)
    nodes = len(pack.graph(next(iter(pack.loader))[0]).operations())
    eager, begin = pace(pack), time.perf_counter()
    started = pack.compilation()
    try:
        started.wait()
        child, begin = time.perf_counter() - begin, time.perf_counter()
        done = started.load()
    finally:
        started.close()
    loading = time.perf_counter() - begin
    told = (
        [f"{child:.1f}", f"{loading:.1f}", f"{eager:.1f}", f"{pace(pack):.1f}"]
        if done
        else [started.reason, "", "", ""]
    )
    return ["+".join(names), str(nodes), *told]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", action="store_true", help="every pair, too")
    parser.add_argument("--members", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--only", nargs="*", default=None, help="these methods")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = options.only or sorted(path.stem for path in (Path(conf_dir()) / "regularizer").glob("*.yaml"))
    cases: list[tuple[str, ...]] = [(name,) for name in names]
    cases += list(combinations(names, 2)) if options.pairs else []
    table = Table("methods", "nodes", "child s", "loading s", "step ms before", "after", title="compiling a pack")
    failed = 0
    for case in cases:
        try:
            row = measured(case, options)
        except UserError as error:
            print(f"{'+'.join(case)}: refused, {error}", file=sys.stderr)
            continue
        failed += row[2].startswith("compiling")
        print("\t".join(row), file=sys.stderr, flush=True)
        table.add_row(*row)
    Console().print(table)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
