"""A disk that is full, and a store that somebody else has locked.

The message is kind, nothing is lost.

    .venv/bin/python scripts/chaos/disk.py [--tries 8] [--seconds 30] [--seed S]

A full disk is a limit on the size of files (RLIMIT_FSIZE), at a random size: for the journal, for
checkpoints, for the store. When it is lifted the run is resumed. The lock is ``BEGIN EXCLUSIVE``
during training.
"""

import argparse
import random
import resource
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from commands import Command, apart, go_on, preload, run
from compare import Found, compare
from reading import jobs, read_rows
from working_folders import folder, new_home

_COMMON = [
    *("train", "data.train_size=100", "model.depth=1", "trainer.checkpoint_seconds=0"),
]
# words of each case, and the range of the limit in bytes: above everything but the file that is
# meant
CASES = {
    "journal": ([*_COMMON, "model.width=2", "trainer.max_epochs=40", "tracking=offline"], (20_000, 60_000)),
    "checkpoint": ([*_COMMON, "model.width=256", "trainer.max_epochs=8", "tracking=offline"], (24_000, 200_000)),
    "store": ([*_COMMON, "model.width=2", "trainer.max_epochs=20"], (50_000, 150_000)),
}


def full(case: str, limit: int, home: Path) -> tuple[bool, list[str]]:
    """Run a case with files of at most ``limit`` bytes, then without.

    Returned: did it fail; what was not kind.
    """
    words = CASES[case][0]

    def prepare() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    command = Command(home, words, warm=True, prepare=prepare)
    code, said = command.wait(), command.said()
    faults = []
    if "Traceback" in said or code not in (0, 1, 2):
        faults.append(f"{case}, {limit} bytes: exit code {code}: {said[-1500:]}")
    if code and not any(word in said for word in ("disk", "space", "too large", "unable to open", "full")):
        faults.append(f"{case}, {limit} bytes: it does not say that the disk is full: {said[-600:]}")
    if code:
        go_on(home, words)
    run(home, ["sync"], warm=True)
    return code != 0, faults


@contextmanager
def locked(store: Path) -> Iterator[None]:
    """Hold the store's lock, so that nobody else can write to it."""
    with closing(sqlite3.connect(store, isolation_level=None, timeout=60)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")


def lock(home: Path, truth: Path, seconds: float, epochs: int) -> list[str]:
    """Train while the store is locked, for so long and until training is far on.

    Returned: what was not right.
    """
    command = Command(home, _long(epochs), warm=True)
    while not _epochs(home):
        if command.poll() is not None:
            return [f"it ended before it was recorded: {command.said()[-1500:]}"]
        time.sleep(0.005)
    with locked(home / "reglab.db"):
        until, before = time.monotonic() + seconds, _epochs(home)
        while command.poll() is None and (time.monotonic() < until or _epochs(home) < min(before + 20, epochs)):
            time.sleep(0.02)
        during = _epochs(home) - before
    code = command.wait()
    if code:
        return [f"exit code {code}: {command.said()[-1500:]}"]
    return [] if during > 0 else ["training stood still while the store was locked"]


def _long(epochs: int) -> list[str]:
    return [*_COMMON, "model.width=2", f"trainer.max_epochs={epochs}"]


def _epochs(home: Path) -> int:
    if not (home / "runs").exists():
        return 0
    folders = list(jobs(home).values())
    if not folders or not (folders[0] / "journal.jsonl").exists():
        return 0
    return len({step for _, step in read_rows(folders[0])[0]})


def main(arguments: list[str] | None = None) -> int:
    """Run this script and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=8, help="of each full disk")
    parser.add_argument("--of", nargs="*", default=[*CASES, "lock"], choices=[*CASES, "lock"])
    parser.add_argument("--seconds", type=float, default=30, help="that the store is locked at least")
    parser.add_argument("--epochs", type=int, default=2000, help="of the run whose store is locked")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    draw, total, said = random.Random(given.seed), Found(), []
    preload()
    with folder() as place:
        for case in given.of:
            truth = new_home(place, f"{case}-truth")
            run(truth, _long(given.epochs) if case == "lock" else CASES[case][0], warm=True)
            run(truth, ["sync"], warm=True)
            failed = 0
            for number in range(1 if case == "lock" else given.tries):
                home = new_home(place, f"{case}-{number}")
                if case == "lock":
                    faults = lock(home, truth, given.seconds, given.epochs)
                    said.append(f"store locked for {given.seconds:g} s")
                else:
                    did, faults = full(case, draw.randint(*CASES[case][1]), home)
                    failed += did
                found = apart(compare, truth, home)
                found.faults += faults
                for fault in found.faults[:4]:
                    print(f"FAULT {case}: {fault}", flush=True)
                total.add(found)
            said += [f"disk full for the {case} {given.tries} times ({failed} ended by it)"] if case != "lock" else []
        print(f"{', '.join(said)}: {total}; {len(total.faults)} faults")
        if total.faults:
            raise SystemExit(1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
