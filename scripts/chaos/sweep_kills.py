"""Kill a sweep again and again, at random, and compare it with an undisturbed one.

    .venv/bin/python scripts/chaos/sweep_kills.py [--jobs 50] [--kills 200] [--launcher fused] [--mixed] [--cold]

SIGKILL comes to a worker, to the parent alone, to its process group, or to all at once (a machine that goes away). A
dead parent's sweep is launched again by the same command, or by ``reglab resume``, in turns. Sweeps that are done
before all kills have come are followed by further ones.
"""

import argparse
import random
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
from commands import Command, apart, preload
from compare import Found, compare
from places import folder, new_home
from reading import run_ids

_KINDS = {"worker": 0.76, "parent": 0.09, "group": 0.05, "machine": 0.10}
_NO_PROGRESS = 60.0  # seconds after which a kill comes without any
_LAUNCHES = 400


def command(jobs: int, launcher: str, mixed: bool, epochs: int) -> list[str]:
    """Return the words of a sweep of ``jobs``: three cocktails, two of which stop early at different epochs."""
    shares = [jobs * part // 100 for part in (34, 66, 100)]
    counts = [shares[0], shares[1] - shares[0], shares[2] - shares[1]]
    blocks = [
        f"{{regularizer: [l2], regularizer.l2.strength: log(1e-5,1e-1,{counts[0]})}}",
        f"{{regularizer: [early_stopping, dropout], regularizer.dropout.strength: linear(0.0,0.6,{counts[1]})}}",
        f"{{regularizer: [early_stopping, l1], regularizer.early_stopping.patience: 3, "
        f"regularizer.l1.strength: log(1e-5,1e-2,{counts[2]})}}",
    ]
    if mixed:  # the last two are cocktails of one job: they train alone
        alone = "regularizer: [sam, ema]", "regularizer: [mixup]"
        blocks[0] = f"{{regularizer: [l2], regularizer.l2.strength: log(1e-5,1e-1,{counts[0] - 2})}}"
        blocks += [f"{{{cocktail}}}" for cocktail in alone]
    return [
        *("train", "-m", f"sweep.blocks=[{', '.join(blocks)}]", f"hydra/launcher={launcher}"),
        *("data.train_size=200", "model.width=32", "optimizer.lr=2e-3", f"trainer.max_epochs={epochs}"),
        *("trainer.checkpoint_seconds=0.2", "sweep.test=false", "sweep.report=false", "hydra.launcher.workers=2"),
        *(["hydra.launcher.always=true", "hydra.launcher.compile=false"] if launcher == "fused" else []),
    ]


class Sweep:
    """One sweep in ``home`` that is killed until it is done. log: what was done to it, in words."""

    def __init__(self, home: Path, words: list[str], warm: bool, draw: random.Random) -> None:
        self.home, self.words, self.warm, self.draw = home, words, warm, draw
        self.kills: Counter[str] = Counter()
        self.again: Counter[str] = Counter()
        self.anew = 0
        self._ids: dict[str, str] = {}
        self._early = False

    def run(self, most: int) -> None:
        """Launch it, kill it ``most`` times at the most, and let it end. Raises RuntimeError where it does not."""
        words, code = self.words, None
        for launch in range(_LAUNCHES):
            running = Command(self.home, words, self.warm)
            while running.poll() is None and self.kills.total() < most:
                self._wait(running)
                if running.poll() is None:
                    self._kill(running)
                self._note_ids()
            code = running.wait()
            self._settle(running)
            if code == 0:
                return
            if self.kills.total() >= most and launch and "failed" in running.said() and not self._early:
                break
            self._early = self._early and self.kills.total() < most
            words = self._next(launch)
        raise RuntimeError(f"the sweep in {self.home} does not end well: {code}\n{running.said()[-3000:]}")

    def _next(self, launch: int) -> list[str]:
        found = [path.parent for path in (self.home / "runs").rglob("multirun.yaml")]
        if launch % 2 and found and (found[0] / "journal.jsonl").exists():
            self.again["reglab resume"] += 1
            return ["resume", str(found[0])]
        self.again["the same command"] += 1
        return self.words

    def _wait(self, running: Command) -> None:
        """Wait for a random time; mostly until training has come further since the last kill.

        Two deaths without progress in a row would count as the job's own fault.
        """
        self._early = not self._early and self.draw.random() < 0.2
        before, limit = self._progress(), time.monotonic() + _NO_PROGRESS
        while not self._early and running.poll() is None and time.monotonic() < limit:
            now = self._progress()
            if len(now - before) >= 1:
                break
            time.sleep(0.05)
        until = time.monotonic() + self.draw.uniform(0, 2.0)
        while running.poll() is None and time.monotonic() < until:
            time.sleep(0.02)

    def _progress(self) -> set[tuple[str, int]]:
        """Return the checkpoints there are, each with its time."""
        found = set()
        for path in (self.home / "runs").rglob("*.ckpt") if (self.home / "runs").exists() else ():
            with suppress(FileNotFoundError):
                found.add((str(path), path.stat().st_mtime_ns))
        return found

    def _kill(self, running: Command) -> None:
        kind = self.draw.choices(list(_KINDS), list(_KINDS.values()))[0]
        workers = running.workers()
        if kind == "worker":
            if not workers:
                return
            with suppress(psutil.Error):
                self.draw.choice(workers).kill()
        elif kind == "parent":
            running.kill()
        elif kind == "group":
            running.kill_group()
        else:
            running.kill_all()
        self.kills[kind] += 1

    def _settle(self, running: Command) -> None:
        """Wait until the workers of a dead parent are gone: they end by themselves."""
        limit = time.monotonic() + 60
        while left := running.session():
            if time.monotonic() > limit:
                raise RuntimeError(f"{self.home}: processes stay when the sweep is gone: {left}")
            time.sleep(0.05)

    def _note_ids(self) -> None:
        with suppress(OSError, ValueError):  # it is being written
            ids = run_ids(self.home)
            self.anew += sum(name in self._ids and self._ids[name] != run_id for name, run_id in ids.items())
            self._ids |= ids


def chaos(given: argparse.Namespace) -> None:
    """Kill sweeps until there were enough kills, and say what came of each and of all. Raises SystemExit for faults."""
    words = command(given.jobs, given.launcher, given.mixed, given.epochs)
    draw, total, anew, sweeps = random.Random(given.seed), Found(), 0, 0
    kills: Counter[str] = Counter()
    again: Counter[str] = Counter()
    with folder() as place:
        truth, started = new_home(place, "truth"), time.monotonic()
        if code := Command(truth, words, not given.cold).wait():
            raise RuntimeError(f"the undisturbed sweep: exit code {code}\n{(truth / 'output.txt').read_text()[-3000:]}")
        print(f"undisturbed: {time.monotonic() - started:.0f} s", flush=True)
        while kills.total() < given.kills:
            sweep = Sweep(new_home(place, f"sweep-{sweeps}"), words, not given.cold, draw)
            sweep.run(given.kills - kills.total())
            found = apart(compare, truth, sweep.home)
            for fault in found.faults[:6]:
                print(f"FAULT sweep {sweeps}: {fault}", flush=True)
            total.add(found)
            kills, again, anew, sweeps = kills + sweep.kills, again + sweep.again, anew + sweep.anew, sweeps + 1
            print(f"sweep {sweeps}: {_told(sweep.kills)}; {found}; {time.monotonic() - started:.0f} s", flush=True)
        print(
            f"{sweeps} sweeps of {given.jobs} ({given.launcher}{', mixed' if given.mixed else ''}), {kills.total()} "
            f"kills ({_told(kills)}), launched again by {_told(again) or 'nobody'}: {total}; "
            f"{anew} runs begun anew; {len(total.faults)} faults"
        )
        if total.faults:
            raise SystemExit(1)


def main(arguments: list[str] | None = None) -> int:
    """Run this script and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=50)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--launcher", default="fused", choices=["fused", "local"])
    parser.add_argument("--mixed", action="store_true", help="packs and jobs that train alone")
    parser.add_argument("--cold", action="store_true", help="every launch is a new interpreter")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    preload()
    chaos(given)
    return 0


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


if __name__ == "__main__":
    sys.exit(main())
