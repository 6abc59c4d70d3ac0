"""Which rule chooses best? Sweeps on several data sets, whose held-out rows are split again and again.

    python scripts/study/choosing.py FOLDER [--resplits 400] [--rows 300] [--data digits,wine]
    [--json choosing.json]

For each data set one sweep trains no regularizer and four methods (l1, l2, dropout, mixup) at seven
strengths and three seeds; FOLDER keeps it, and a second call continues from there. More than half of
the rows are held out. They are split at random into a validation part (at most ``--rows``) and a
test part, and each rule chooses a strength of each method by the former. Its *excess* is the test
loss of the choice minus that of the strength which is best on the test part, in percent of what the
best strength gains over no regularizer on the whole of the held-out rows (of the loss without one
where nothing is gained). *worse than best*: the share of splits in which the choice's test loss is
higher.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from reglab.analysis.per_example_file import Examples
from reglab.analysis.rules import RULES, Rule
from reglab.analysis.selection import Candidate, select
from reglab.analysis.sweep_data import SweepData
from reglab.analysis.trial import Trial
from reglab.reports.collect import collect

_COMMON = ["data.val_size=0.55", "data.test_size=0.05", "model=mlp", "model.width=64", "model.depth=2"]
DATA = {  # name: how many training rows, epochs
    "digits": (200, 40),
    "breast_cancer": (100, 60),
    "wine": (60, 60),
    "diabetes": (150, 60),
    "mnist1d": (400, 40),
    "sparse_regression": (100, 60),
    "correlated_regression": (100, 60),
    "multilabel": (150, 40),
}
BLOCKS = (
    "{regularizer: []},"
    '{regularizer: [l1], regularizer.l1.strength: "log(1e-5,1e-2,7)"},'
    '{regularizer: [l2], regularizer.l2.strength: "log(1e-4,1e-1,7)"},'
    '{regularizer: [dropout], regularizer.dropout.strength: "linear(0.1,0.8,7)"},'
    '{regularizer: [mixup], regularizer.mixup.strength: "log(0.025,1.6,7)"}'
)


def swept(name: str, folder: Path) -> SweepData:
    """Return the sweep of a data set, trained where it is not yet."""
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    rows, epochs = DATA[name]
    command = [
        sys.executable, "-m", "reglab", "train", "-m", f"data={name}", f"data.train_size={rows}", *_COMMON,
        f"trainer.max_epochs={epochs}", f"sweep.blocks=[{BLOCKS}]", "sweep.seeds=3", "sweep.test=false", "trainer=cpu",
        f"name={name}",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{done.stdout[-2000:]}{done.stderr[-2000:]}")
    from reglab.tracking.mlflow.read import find_runs

    uri = f"sqlite:///{(place / 'reglab.db').absolute()}"
    # Its jobs are named alike.
    sweep = next(record for record in find_runs(uri, name) if "reglab.jobs" in record.tags)
    return collect(uri, sweep.run_id)


def part(data: SweepData, rows: np.ndarray) -> tuple[list[Trial], dict[str, Examples]]:
    """Return the runs as if only these rows of the validation part had been measured."""
    results = {
        run: replace(
            one,
            **{name: getattr(one, name)[rows] for name in ("val_index", "val_loss", "val_score")},
            **{name: getattr(one, name)[rows] for name in ("val_constant_loss", "val_constant_score")},
            **dict.fromkeys(("val_outputs", "val_targets", "val_weight")),
        )
        for run, one in data.results.items()
    }
    trials = []
    for trial in data.trials:
        losses = results[trial.run_id].val_loss.astype(float)
        known = {"val/loss": losses.mean(), "val/loss_se": losses.std(ddof=1) / len(losses) ** 0.5}
        trials.append(replace(trial, metrics={**trial.metrics, **known}))
    return trials, results


def loss(candidate: Candidate, data: SweepData, rows: np.ndarray) -> float:
    return float(np.mean([data.results[trial.run_id].val_loss[rows].mean() for trial in candidate.trials]))


def resplit(data: SweepData, resplits: int, most: int) -> Iterator[dict[str, dict[Rule, float]]]:
    """Yield for each split and method the excess of every rule, as a share of what regularizing gains."""
    count = len(next(iter(data.results.values())).val_index)
    everything = np.arange(count)
    gains = gained(data, everything)
    draw = np.random.default_rng(0)
    for _ in range(resplits):
        order = draw.permutation(count)
        cut = min(most, count // 2)
        trials, results = part(data, np.sort(order[:cut]))
        choices = {rule: select(trials, results=results, rule=rule) for rule in RULES}
        test, found = order[cut:], {}
        for method, gain in gains.items():
            members = [c for c in choices["best"].candidates if c.block == method]
            reached = {c.label: loss(c, data, test) for c in members}
            least = min(reached.values())
            found[method] = {rule: (reached[choices[rule].blocks[method].label] - least) / gain for rule in RULES}
        yield found


def gained(data: SweepData, rows: np.ndarray) -> dict[str, float]:
    """Return for each method by how much its best strength lowers the loss on all rows."""
    candidates = data.choose().candidates
    bare = next(loss(c, data, rows) for c in candidates if c.regularizer == "none")
    blocks = dict.fromkeys(c.block for c in candidates if c.regularizer != "none")
    best = {block: min(loss(c, data, rows) for c in candidates if c.block == block) for block in blocks}
    return {block: bare - value if bare - value > 0.01 * bare else bare for block, value in best.items()}


def show(found: Mapping[str, Mapping[str, Sequence[Mapping[Rule, float]]]], console: Console) -> dict[str, object]:
    """Print the table and return it as plain numbers."""
    drawn = Table("data", "method", *(f"excess {rule}" for rule in RULES), *(f"{r} worse" for r in RULES[1:]))
    kept: dict[str, object] = {}
    overall: dict[Rule, list[float]] = {rule: [] for rule in RULES}
    worse: dict[Rule, list[float]] = {rule: [] for rule in RULES}
    for name, methods in found.items():
        for method, splits in methods.items():
            mean = {rule: 100 * float(np.mean([one[rule] for one in splits])) for rule in RULES}
            lost = {rule: 100 * float(np.mean([one[rule] > one[RULES[0]] for one in splits])) for rule in RULES}
            for rule in RULES:
                overall[rule].append(mean[rule])
                worse[rule].append(lost[rule])
            drawn.add_row(
                name, method, *(f"{mean[rule]:.1f}%" for rule in RULES), *(f"{lost[rule]:.0f}%" for rule in RULES[1:])
            )
            kept[f"{name} {method}"] = {"excess": mean, "worse": lost}
    drawn.add_section()
    for title, of in (("mean", np.mean), ("median", np.median), ("worst", np.max)):
        cells = [f"{of(overall[rule]):.1f}%" for rule in RULES] + [f"{of(worse[rule]):.0f}%" for rule in RULES[1:]]
        drawn.add_row(title, "", *cells)
    console.print(drawn)
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--resplits", type=int, default=400)
    parser.add_argument("--rows", type=int, default=300, help="of the validation part, at most")
    parser.add_argument("--data", default=",".join(DATA), help="names, with commas")
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    found: dict[str, dict[str, list[dict[Rule, float]]]] = {}
    for name in arguments.data.split(","):
        data = swept(name, arguments.folder)
        for split in resplit(data, arguments.resplits, arguments.rows):
            for method, excess in split.items():
                found.setdefault(name, {}).setdefault(method, []).append(excess)
        print(f"{name}: done", file=sys.stderr)
    kept = show(found, Console(width=120))
    if arguments.json:
        arguments.json.write_text(json.dumps(kept, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
