"""A sweep with poisoned jobs: they fail, each with its reason, and take nobody with them.

    .venv/bin/python scripts/chaos/poisoned.py [--healthy 40] [--of fused local] [--cold]

Ten jobs ruin themselves in the middle of training: two raise, two become NaN, two run out of the
memory that a limit lets them have, two exit with a code, one aborts, one is killed.
"""

import argparse
import sys
from pathlib import Path

from commands import Command, apart, preload
from poison import ABORTS, EXITS, KILLED, NAN, NONE, RAISES, RUNS_OUT
from reading import held, jobs, read_rows, running, store_rows
from working_folders import folder, new_home

REASONS = {
    RAISES: "ArithmeticError: poisoned",
    NAN: "stopped being finite",
    RUNS_OUT: "memory",
    EXITS: "os._exit(3)",
    ABORTS: "SIGABRT",
    KILLED: "SIGKILL",
}


def command(healthy: int, launcher: str, short: bool) -> list[str]:
    """Return the words of a sweep of so many healthy jobs and 10 poisoned ones, or 3 where it is to be short."""
    poisoned = ["1,4,6"] if short else ["1,2,3,4,5,6", "1,2,3,4"]
    blocks = [f"{{regularizer: [l2], regularizer.l2.strength: log(1e-5,1e-2,{healthy})}}"]
    blocks += [
        f"{{regularizer: [l2], seed: {seed}, regularizer.poison.strength: '{ways}'}}"
        for seed, ways in enumerate(poisoned, 1)
    ]
    return [
        *("train", "-m", f"sweep.blocks=[{', '.join(blocks)}]", f"hydra/launcher={launcher}", "trust=[poison]"),
        *("+regularizer.poison._target_=poison.Poison", "+regularizer.poison.strength=0"),
        *("data.train_size=200", "model.width=16", "trainer.max_epochs=12", "trainer.checkpoint_seconds=0.2"),
        *("sweep.test=false", "sweep.report=false", "hydra.launcher.workers=2"),
        *(["hydra.launcher.always=true", "hydra.launcher.compile=false"] if launcher == "fused" else []),
    ]


def check(home: Path) -> tuple[int, int, list[str]]:
    """Return how many jobs finished, how many failed with their reason, and what is not as it should be."""
    from omegaconf import OmegaConf

    from reglab.tracking.run_state import read_state

    faults, finished, failed = [], 0, 0
    series: dict[int, list[str]] = {}
    for name, run in jobs(home).items():
        way = int(OmegaConf.load(run / "config.yaml").regularizer.poison.strength)
        status, count, _ = store_rows(home, run)
        ended = read_state(run)
        message = ended.tags.get("reglab.message", "") if ended else ""
        rows, _, doubled = read_rows(run)
        if status != ("FAILED" if way else "FINISHED") or ended is None or ended.status != status:
            faults.append(f"job {name}, way {way}: {status} in MLflow, {ended and ended.status} here: {message}")
        elif way != NONE and REASONS[way] not in message:
            faults.append(f"job {name}, way {way}: its reason is told as {message!r}")
        elif way == NONE:
            series.setdefault(len(rows), []).append(name)
            finished += 1
        else:
            failed += 1
        if doubled or len({(key, step) for key, step, _ in count}) < len(count):
            faults.append(f"job {name}: rows twice")
    if len(series) > 1:
        faults.append(f"healthy jobs have different numbers of rows: {series}")
    faults += [f"{run} is RUNNING in MLflow for ever" for run in running(home)]
    faults += [f"somebody still holds {path}" for path in held(home)]
    return finished, failed, faults


def main(arguments: list[str] | None = None) -> int:
    """Run this script and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--healthy", type=int, default=40)
    parser.add_argument("--short", action="store_true", help="only three of the ways")
    parser.add_argument("--of", nargs="*", default=["fused", "local"], choices=["fused", "local"])
    parser.add_argument("--cold", action="store_true", help="every launch is a new interpreter")
    given = parser.parse_args(arguments)
    preload()
    trouble = False
    with folder() as place:
        for launcher in given.of:
            there = new_home(place, launcher, Path(__file__).with_name("poison.py"))
            running_sweep = Command(there, command(given.healthy, launcher, given.short), not given.cold)
            code = running_sweep.wait()
            finished, failed, faults = apart(check, there)
            left = running_sweep.session()
            faults += [f"exit code {code}: {running_sweep.said()[-1500:]}"] if code != 1 else []
            faults += [f"processes stay: {left}"] if left else []
            for fault in faults:
                print(f"FAULT {launcher}: {fault}", flush=True)
            wanted = (given.healthy, 3 if given.short else 10)
            trouble |= bool(faults) or (finished, failed) != wanted
            print(
                f"{launcher}: {finished} of {wanted[0]} healthy jobs FINISHED, {failed} of {wanted[1]} poisoned ones "
                f"FAILED with their reason, exit code {code}; {len(faults)} faults",
                flush=True,
            )
        if trouble:
            raise SystemExit(1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
