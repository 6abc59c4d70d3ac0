"""End training by SIGTERM at random times.

In order, at most one step lost, and resuming gives the same bits.

    .venv/bin/python scripts/chaos/sigterms.py [--signals 50] [--epochs 60] [--cold] [--seed S]

The signal comes to a run alone, to a sweep of packs, or to one of its workers. A package beside the
runs, trusted by them, writes each optimizer step into a file the moment it is taken.
"""

import argparse
import json
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from commands import Command, apart, preload
from compare import Found, compare
from reading import jobs
from working_folders import folder, new_home

WITNESS = Path(__file__).with_name("witness.py")
_COMMON = [
    *("data.train_size=200", "model.width=32", "trainer.checkpoint_seconds=1", "trust=[witness]"),
    *("scheduler=cosine", "trainer.gradient_clip_norm=0.5"),
    *("+regularizer.witness._target_=witness.Witness",),
]
_SWEEP = [
    *("-m", "regularizer=[l2]", "regularizer.l2.strength=1e-4,1e-3,1e-2,1e-1", "hydra.launcher.always=true"),
    *("hydra.launcher.workers=1", "hydra.launcher.compile=false", "sweep.report=false", "sweep.test=false"),
]
KINDS = ("run", "sweep", "worker")


def words(kind: str, epochs: int) -> list[str]:
    """Return the command that a signal of this kind comes to."""
    return ["train", *([] if kind == "run" else _SWEEP), *_COMMON, f"trainer.max_epochs={epochs}"]


class Interruptions:
    """A command in ``home``, ended by SIGTERM and resumed until it is done."""

    def __init__(self, home: Path, kind: str, epochs: int, warm: bool, draw: random.Random) -> None:
        self.home, self.kind, self.warm, self.draw = home, kind, warm, draw
        self.words = words(kind, epochs)
        self.faults: list[str] = []
        self.signals = 0
        self.most_lost = 0

    def run(self, most: int) -> None:
        """Interrupt it ``most`` times at the most."""
        command = self.words
        while True:
            running = Command(self.home, command, self.warm)
            while self.signals < most and self._wait(running):
                before = self._last_steps()
                self.signals += 1
                if self.kind != "worker":
                    running.kill(signal.SIGTERM)
                    break
                self._preempt(running, before)
            ended_by_us = self.kind != "worker" and running.poll() is None and self.signals <= most
            code = running.wait()
            if code == 0:
                return
            if code not in (143, -signal.SIGTERM):
                self.faults.append(f"{self.kind}: exit code {code}: {running.said()[-600:]}")
                return
            if ended_by_us:
                self._check_end(code)
            folders = [path.parent for path in (self.home / "runs").rglob("multirun.yaml")]
            folders = folders or list(jobs(self.home).values())
            command = ["resume", str(folders[0]), "trust=[witness]"]

    def _wait(self, running: Command) -> bool:
        """Wait until training has taken some more steps, a random number.

        False where it ended before.
        """
        wanted = len(_lines(self.home)) + self.draw.randint(1, 150)
        while len(_lines(self.home)) < wanted:
            if running.poll() is not None:
                return False
            time.sleep(0.002)
        return True

    def _preempt(self, running: Command, before: dict[int, int]) -> None:
        for worker in running.workers():
            if worker.pid in before:
                worker.send_signal(signal.SIGTERM)

    def _check_end(self, code: int) -> None:
        taken = max(self._last_steps().values())
        kept = max(self._kept())
        self.most_lost = max(self.most_lost, taken - kept)
        if taken - kept > 1:
            self.faults.append(f"{self.kind}: {taken} steps were taken, the checkpoint has {kept}")
        ended = {name: _status(path) for name, path in jobs(self.home).items()}
        odd = {name: status for name, status in ended.items() if status not in ("KILLED", "FINISHED")}
        if odd or "KILLED" not in ended.values():
            self.faults.append(f"{self.kind}: interrupted runs ended {ended}")

    def _last_steps(self) -> dict[int, int]:
        return dict(_lines(self.home))

    def _kept(self) -> Iterator[int]:
        for path in (self.home / "runs").rglob("pack.json"):
            yield json.loads(path.read_text())["steps"]
        for path in (self.home / "runs").rglob("last.ckpt"):
            yield apart(_steps_in, path)


def _steps_in(path: Path) -> int:
    import torch

    return int(torch.load(path, map_location="cpu", weights_only=True)["global_step"])


def _lines(home: Path) -> list[tuple[int, int]]:
    try:
        text = (home / "steps.txt").read_text()
    except FileNotFoundError:
        return []
    whole = text[: text.rfind("\n") + 1].splitlines()
    return [(int(line.split()[0]), int(line.split()[1])) for line in whole]


def _status(run: Path) -> str:
    from reglab.tracking.run_state import read_state

    found = read_state(run)
    return found.status if found else "none"


def main(arguments: list[str] | None = None) -> int:
    """Run this script and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--signals", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--of", nargs="*", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--cold", action="store_true", help="every launch is a new interpreter")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    draw, total = random.Random(given.seed), Found()
    told, most_lost = [], 0
    preload()
    with folder() as place:
        for number, kind in enumerate(given.of):
            share = given.signals * (number + 1) // len(given.of) - given.signals * number // len(given.of)
            truth = new_home(place, f"{kind}-truth", WITNESS)
            code = Command(truth, words(kind, given.epochs), not given.cold).wait()
            if code:
                raise RuntimeError(f"undisturbed: exit code {code}\n{(truth / 'output.txt').read_text()[-3000:]}")
            done = 0
            while done < share:
                one = Interruptions(
                    new_home(place, f"{kind}-{done}", WITNESS), kind, given.epochs, not given.cold, draw
                )
                one.run(share - done)
                found = apart(compare, truth, one.home)
                found.faults += one.faults
                for fault in found.faults[:6]:
                    print(f"FAULT {kind} after {done} signals: {fault}", flush=True)
                total.add(found)
                done, most_lost = done + max(one.signals, 1), max(most_lost, one.most_lost)
            told.append(f"{kind} {done}")
        print(
            f"SIGTERM {', '.join(told)} times: exit code 143, KILLED, at most {most_lost} steps lost; resumed: "
            f"{total}; {len(total.faults)} faults"
        )
        if total.faults:
            raise SystemExit(1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
