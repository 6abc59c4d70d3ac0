"""Die at every durable write, one after the other, as SQLite's developers test SQLite.

Then resume, and compare.

    .venv/bin/python scripts/chaos/durable_writes.py [--of solo pack sync] [--deaths N] [--seed S]

Counted are fsync, rename, replace, link, unlink, writes to descriptors (the journal) and commits of
SQLite. A process dies before the n-th, after it, or half-way through the n-th write to a
descriptor, for every n until it comes through undisturbed; or ``--deaths`` times at random ones.
"""

import argparse
import os
import random
import shutil
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

from commands import Command, apart, go_on, preload, run
from compare import Found, compare
from working_folders import folder, new_home

_DIED = 137
_leave = os._exit  # reglab lets it raise while a run trains
MOMENTS = ("before", "after", "half")
_SMALL = [
    *("data.train_size=60", "model.width=4", "model.depth=1", "trainer.checkpoint_seconds=0", "trainer.max_epochs=3"),
]
_PACK = [
    *("-m", "regularizer=[l2]", "regularizer.l2.strength=1e-4,1e-3,1e-2", "hydra.launcher.always=true"),
    *("hydra.launcher.workers=1", "hydra.launcher.compile=false", "sweep.report=false", "sweep.test=false"),
]
CASES = {
    "solo": ["train", *_SMALL],
    "pack": ["train", *_PACK, *_SMALL],
    "sync": ["train", *_SMALL, "tracking=offline"],
}


def _die() -> NoReturn:
    _leave(_DIED)


class Dying:
    """Counts the durable writes of this process, and ends it at the n-th.

    N = 0 only counts, into ``counted``.
    """

    def __init__(self, number: int, moment: str, counted: Path) -> None:
        self._left, self._moment, self._into = number, moment, counted
        self._seen, self._lock = 0, threading.Lock()
        self._inside = threading.local()
        for name in ("fsync", "rename", "replace", "link", "unlink"):
            setattr(os, name, self._counted(getattr(os, name), name))
        self._write = os.write
        os.write = self._written  # type: ignore[assignment]  # counted
        self._commits()

    def _turn(self) -> bool:
        """Count one more, and return whether it is the one."""
        with self._lock:
            self._seen += 1
            if self._left == 0 and self._seen % 16 == 1:
                self._into.write_text(str(self._seen + 15))
            return self._seen == self._left

    def _counted(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            if self._moment == "half" or not self._turn():
                return function(*arguments, **options)
            if self._moment == "before":
                _die()
            function(*arguments, **options)
            _die()

        return counted

    def _written(self, number: int, data: Any) -> int:
        if number <= 2 or not self._turn():
            return self._write(number, data)
        if self._moment != "before":
            self._write(number, bytes(data)[: len(data) // 2] if self._moment == "half" else data)
        _die()

    def _commits(self) -> None:
        dying = self

        class Connection(sqlite3.Connection):
            def commit(self) -> None:
                dying._counted(super().commit, "commit")() if self.in_transaction else super().commit()

            def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
                if sql.strip().upper() in ("COMMIT", "END"):
                    return dying._counted(super().execute, "commit")(sql, *arguments)
                return super().execute(sql, *arguments)

        def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
            return _connect(*arguments, **{"factory": Connection, **options})

        _connect = sqlite3.connect
        sqlite3.connect = sqlite3.dbapi2.connect = connect


def in_process() -> None:
    """Let a sweep's worker be the sweep's own process: each write is then one of a single process."""
    from reglab.launchers import worker_pool

    worker_pool.WorkerPool = _InProcess  # type: ignore[misc]  # stands in
    from reglab.launchers import local

    local.WorkerPool = _InProcess  # type: ignore[misc]  # stands in


class _InProcess:
    """Runs a sweep's orders one after the other in this process, as its worker would."""

    interrupted = False

    def __init__(self, spawn: Any, size: int, listener: Any, rules: Any = None) -> None:
        from reglab.launchers.worker import _unpickle

        # the assignment is what ``LocalRunner._spawn`` would hand to a new process
        pickled = next(each.cell_contents for each in spawn.__closure__ if isinstance(each.cell_contents, bytes))
        self._assignment = _unpickle(pickled)

    def run(self, orders: Any) -> dict[int, Any]:
        from reglab.launchers.compose import Composer
        from reglab.launchers.events import Ended, Regrouped
        from reglab.launchers.run_group import run_group

        ends, waiting = {}, list(orders)
        given = self._assignment
        composer = Composer(given.context.config_loader, given.config, given.bases)
        while waiting:
            order, events = waiting.pop(0), []
            run_group(order, given, composer, events.append)
            ends.update({each.job: each for each in events if isinstance(each, Ended)})
            for each in (each for each in events if isinstance(each, Regrouped)):
                waiting += [order.subset(group) for group in each.groups]
        return ends


def one(case: str, number: int, moment: str, truth: Path, place: Path) -> tuple[int, Found]:
    """Let a command die at its n-th write, resume as a user would, and compare.

    Returned are its exit code and that.
    """
    there = new_home(place, f"{case}-{moment}-{number}")
    words = CASES[case]
    if case == "sync":
        _copy_runs(truth.with_name("offline"), there)
        words = ["sync"]

    def prepare() -> None:
        if case == "pack":
            in_process()
        Dying(number, moment, there / "writes.txt")

    command = Command(there, words, warm=True, prepare=prepare)
    code = command.wait()
    if code not in (_DIED, 0):
        raise RuntimeError(f"{there}: exit code {code}\n{command.said()[-3000:]}")
    try:
        if code == _DIED:
            _go_on(case, there)
        found = apart(compare, truth, there)
    except RuntimeError as error:  # the others are to be tried, too
        return code, Found(runs=1, faults=[f"{moment} write {number}: {error}"])
    found.faults = [f"{moment} write {number}: {fault}" for fault in found.faults]
    if not found.faults:
        shutil.rmtree(there)
    return code, found


def _go_on(case: str, home: Path) -> None:
    if case == "sync":
        run(home, ["sync"], warm=True)
        return
    if case == "pack":
        _forked(home, CASES[case])
    else:
        go_on(home, CASES[case])
    run(home, ["sync"], warm=True)


def _forked(home: Path, words: list[str]) -> None:
    command = Command(home, words, warm=True, prepare=in_process)
    if code := command.wait():
        raise RuntimeError(f"{home}: resuming ended with exit code {code}\n{command.said()[-3000:]}")


def _copy_runs(source: Path, home: Path) -> None:
    """Copy an offline run, its absolute places changed.

    It was recorded for the store in its working folder.
    """
    shutil.copytree(source / "runs", home / "runs")
    for path in [*home.rglob("run.json"), *home.rglob("start.json"), *home.rglob("journal.jsonl")]:
        path.write_text(path.read_text().replace(str(source), str(home)))


def undisturbed(case: str, place: Path) -> tuple[Path, int]:
    """Return the folder where the command of ``case`` came through, and how many writes it made, nearly."""
    truth = new_home(place, f"{case}/truth")
    if case == "sync":
        offline = truth.with_name("offline")
        offline.mkdir()
        run(offline, CASES["sync"], warm=True)
        _copy_runs(offline, truth)
    words = ["sync"] if case == "sync" else CASES[case]

    def prepare() -> None:
        if case == "pack":
            in_process()
        Dying(0, "before", truth / "writes.txt")

    command = Command(truth, words, warm=True, prepare=prepare)
    if code := command.wait():
        raise RuntimeError(f"undisturbed: exit code {code}\n{command.said()[-3000:]}")
    return truth, int((truth / "writes.txt").read_text())


def at_every_write(case: str, truth: Path, place: Path) -> Iterator[tuple[int, Found]]:
    """Let it die at every write in every way, and yield what ``one`` returns."""
    for moment in MOMENTS:
        for number in count(1):
            code, found = one(case, number, moment, truth, place)
            yield code, found
            if code == 0:
                break


def chaos(cases: list[str], deaths: int | None, seed: int, place: Path) -> tuple[dict[str, int], Found]:
    """Let these cases die, and return how often each did, and what was found. deaths: see the module's."""
    draw, died, total = random.Random(seed), dict.fromkeys(cases, 0), Found()
    for turn, case in enumerate(cases):
        truth, writes = undisturbed(case, place)
        if deaths is None:
            ends = at_every_write(case, truth, place)
        else:
            share = deaths * (turn + 1) // len(cases) - deaths * turn // len(cases)
            chosen = [(draw.randint(1, writes), draw.choice(MOMENTS)) for _ in range(share)]
            ends = (one(case, number, moment, truth, place) for number, moment in chosen)
        for code, found in ends:
            died[case] += code == _DIED
            for fault in found.faults[:4]:
                print(f"FAULT {case}: {fault}", flush=True)
            total.add(found)
    return died, total


def main(arguments: list[str] | None = None) -> int:
    """Run this script and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--deaths", type=int, help="so many at random writes; default: one at every write")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    preload()
    with folder() as place:
        deaths, found = chaos(given.of, given.deaths, given.seed, place)
        said = ", ".join(f"{case} {count}" for case, count in deaths.items())
        print(f"died at durable writes ({said}) and went on: {found}; {len(found.faults)} faults")
        if found.faults:
            raise SystemExit(f"kept in {place}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
