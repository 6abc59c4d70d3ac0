"""Whether disturbed runs came to what undisturbed ones did.

Weights, rows of the journal, and what MLflow has.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reading import VOLATILE, Rows, differences, held, jobs, read_rows, running, same, store_rows

CHECKPOINTS = ("best.ckpt", "last.ckpt")


@dataclass
class Found:
    """What was compared and what was found. faults: in words."""

    runs: int = 0
    same_weights: int = 0
    same_series: int = 0
    rows: int = 0
    lost: int = 0
    doubled: int = 0
    faults: list[str] = field(default_factory=list)

    def add(self, other: "Found") -> None:
        """Take in another comparison."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def __str__(self) -> str:
        return (
            f"{self.same_weights}/{self.runs} same weights, {self.same_series}/{self.runs} same series, "
            f"{self.rows} rows: {self.lost} lost, {self.doubled} doubled"
        )


def compare(truth: Path, home: Path, statuses: Sequence[str] = ("FINISHED",)) -> Found:
    """Compare the runs of the working folder ``home`` with those of the undisturbed ``truth``, job by job."""
    found = Found()
    wanted, there = jobs(truth), jobs(home)
    for name in sorted(wanted.keys() | there.keys()):
        if name not in there or name not in wanted:
            found.runs += 1
            found.faults.append(f"{name}: {'is missing' if name in wanted else 'is not in the undisturbed sweep'}")
            continue
        found.add(_compare_job(name, wanted[name], there[name], statuses))
    found.faults += [f"{run} is RUNNING in MLflow for ever" for run in running(home)]
    found.faults += [f"somebody still holds {path}" for path in held(home)]
    return found


def _compare_job(name: str, wanted: Path, there: Path, statuses: Sequence[str]) -> Found:
    faults = [
        f"{name}: differs at {where}"
        for file in CHECKPOINTS
        for where in differences(wanted / "checkpoints" / file, there / "checkpoints" / file)[:3]
    ]
    same_weights = not faults
    (truth, _, _), (rows, times, doubled) = read_rows(wanted), read_rows(there)
    missing, extra = truth.keys() - rows.keys(), rows.keys() - truth.keys()
    other = [place for place in truth.keys() & rows.keys() if not (_volatile(place) or same(truth[place], rows[place]))]
    faults += [f"{name}: lost {sorted(missing)[:4]}"] if missing else []
    faults += [f"{name}: has beyond it {sorted(extra)[:4]}"] if extra else []
    faults += [f"{name}: {len(other)} other values, {sorted(other)[:4]}"] if other else []
    faults += [f"{name}: {doubled} rows twice in the journal"] if doubled else []
    in_store = _compare_store(name, there, rows, times, statuses)
    return Found(
        runs=1,
        same_weights=int(same_weights),
        same_series=int(not (missing or extra or other or doubled)),
        rows=len(rows),
        lost=len(missing) + in_store.lost,
        doubled=doubled + in_store.doubled,
        faults=faults + in_store.faults,
    )


def _compare_store(
    name: str, folder: Path, rows: Rows, times: Mapping[tuple[str, int], int], statuses: Sequence[str]
) -> Found:
    """Compare store and journal: every row there is one of the journal's, and all that the budget keeps is there."""
    from reglab.tracking.folder import read_identity
    from reglab.tracking.store_keys import store_key

    home = next(each for each in folder.parents if (each / "reglab.db").exists())
    status, count, values = store_rows(home, folder)
    rule = read_identity(folder).thinning
    journal = {(store_key(key), step): (value, times[key, step]) for (key, step), value in rows.items()}
    kept = {(store_key(key), step) for key, step in rows if rule.keeps(key, step)}
    lost = kept - values.keys()
    places = Counter((key, step) for key, step, _ in count.elements())
    doubled = sum(many - 1 for many in places.values())
    untrue = [
        (key, step)
        for key, step, time in count
        if (key, step) not in journal
        or journal[key, step][1] != time
        or not same(journal[key, step][0], values[key, step])
    ]
    faults = [] if status in statuses else [f"{name}: its status in MLflow is {status}"]
    faults += [f"{name}: MLflow lacks {sorted(lost)[:4]}"] if lost else []
    faults += [f"{name}: MLflow has {doubled} rows twice"] if doubled else []
    faults += [f"{name}: MLflow has rows that the journal has not, {sorted(untrue)[:4]}"] if untrue else []
    return Found(lost=len(lost), doubled=doubled, faults=faults)


def _volatile(place: tuple[str, int]) -> bool:
    return place[0].removeprefix("final/").startswith(VOLATILE)
