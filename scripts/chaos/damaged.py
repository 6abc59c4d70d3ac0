"""Flip a bit of a checkpoint, or cut it.

It is noticed, the one before it is used, and the bits are the same.

    .venv/bin/python scripts/chaos/damaged.py [--places 50] [--of last best pack journal] [--seed S]

A run (and a pack) is ended in the middle; then, again and again, its folder is put back as it was,
one file is damaged, and it is resumed. ``last`` and ``pack`` have a previous file to resume from,
``best`` is needed by the checkpoint that speaks of it, and the journal gets a torn last line.
"""

import argparse
import random
import shutil
import signal
import sys
import time
from pathlib import Path

from commands import Command, apart, preload
from compare import Found, compare
from working_folders import folder, new_home

FILES = {"last": "last.ckpt", "best": "best.ckpt", "pack": "pack.ckpt", "journal": "journal.jsonl"}
_COMMON = [
    *("data.train_size=100", "model.width=8", "model.depth=1", "trainer.max_epochs=15"),
    "trainer.checkpoint_seconds=0",
]
_PACK = [
    *("-m", "regularizer=[l2]", "regularizer.l2.strength=1e-4,1e-3,1e-2", "hydra.launcher.always=true"),
    *("hydra.launcher.workers=1", "hydra.launcher.compile=false", "sweep.report=false", "sweep.test=false"),
]
_LEAST = 3  # checkpoints before the run is ended, so that there is a previous one


def command(kind: str) -> list[str]:
    """Return the words of the run, or of the pack."""
    return ["train", *(_PACK if kind == "pack" else []), *_COMMON]


def interrupted(home: Path, kind: str) -> None:
    """End the command in ``home`` as soon as it has some checkpoints."""
    running = Command(home, command(kind), warm=True)
    name = f"{'pack' if kind == 'pack' else 'last'}.previous.ckpt"
    seen: set[int] = set()
    while len(seen) < _LEAST:
        if running.poll() is not None:
            raise RuntimeError(f"it ended too early:\n{running.said()[-2000:]}")
        seen |= {path.stat().st_mtime_ns for path in (home / "runs").rglob(name)} if (home / "runs").exists() else set()
        time.sleep(0.002)
    running.kill(signal.SIGTERM)
    running.wait()


def damage(path: Path, draw: random.Random) -> str:
    """Damage a file and return how, in words."""
    content = bytearray(path.read_bytes())
    place = draw.randrange(len(content))
    if path.suffix == ".jsonl":  # as death leaves it: a part of a line more
        path.write_bytes(bytes(content) + b'{"time":1,"step":7,"metrics":{"val/loss":0.1'[: draw.randint(1, 44)])
        return "a torn line more"
    if draw.random() < 0.5:
        content[place] ^= 1 << draw.randrange(8)
        path.write_bytes(bytes(content))
        return f"bit flipped at {place} of {len(content)}"
    path.write_bytes(bytes(content[:place]))
    return f"cut at {place} of {len(content)}"


def one(kind: str, home: Path, kept: Path, truth: Path, draw: random.Random) -> tuple[bool, Found]:
    """Damage, resume, compare. Returned: whether the damage was reported, and what the comparison found."""
    shutil.rmtree(home)
    shutil.copytree(kept, home)
    path = next((home / "runs").rglob(FILES[kind]))
    how = damage(path, draw)
    begin = path.parent if kind in ("pack", "journal") else path.parent.parent
    if kind == "pack":
        begin = begin.parent
    going_on = Command(home, ["resume", str(begin)], warm=True)
    code = going_on.wait()
    found = apart(compare, truth, home)
    told = str(path.name) in going_on.said()
    if code:
        found.faults.append(f"exit code {code}: {going_on.said()[-600:]}")
    found.faults = [f"{how}: {fault}" for fault in found.faults]
    return told or kind == "journal", found


def main(arguments: list[str] | None = None) -> int:
    """Run this script and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--places", type=int, default=50)
    parser.add_argument("--of", nargs="*", default=list(FILES), choices=list(FILES))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    draw, total, said = random.Random(given.seed), Found(), []
    preload()
    with folder() as place:
        for kind in given.of:
            truth, disturbed = (new_home(place, f"{kind}-{name}") for name in ("truth", "run"))
            kept = place / f"{kind}-kept"
            if code := Command(truth, command(kind), warm=True).wait():
                raise RuntimeError(f"undisturbed: exit code {code}\n{(truth / 'output.txt').read_text()[-2000:]}")
            interrupted(disturbed, kind)
            shutil.copytree(disturbed, kept)
            noticed = 0
            for _ in range(given.places):
                told, found = one(kind, disturbed, kept, truth, draw)
                noticed += told
                for fault in found.faults[:3]:
                    print(f"FAULT {kind}: {fault}", flush=True)
                total.add(found)
            said.append(f"{FILES[kind]} {noticed}/{given.places}")
            if noticed < given.places:
                total.faults.append(f"{kind}: {given.places - noticed} damages were not told")
        print(f"damaged and noticed: {', '.join(said)}; resumed: {total}; {len(total.faults)} faults")
        if total.faults:
            raise SystemExit("\n".join(total.faults[:10]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
