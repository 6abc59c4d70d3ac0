"""What runs have left behind: in their folders, and in MLflow."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

VOLATILE = ("system/", "time/")  # measured of the machine: other values by nature
# Of checkpoints: positions, texts, volatile rows.
_OTHERWISE = ("journal", "hyper_parameters", "loops", "latest")

Rows = dict[tuple[str, int], float]


def jobs(home: Path) -> dict[str, Path]:
    """Return the folders of the jobs that count, by their number in the sweep.

    Of a run alone by the name ``run``.
    """
    found: dict[str, Path] = {}
    for path in sorted((home / "runs").rglob("run.json")):
        folder = path.parent
        if folder.name.startswith("earlier-") or (folder / "multirun.yaml").exists():
            continue
        found[folder.name if (folder.parent / "multirun.yaml").exists() else "run"] = folder
    return found


def run_ids(home: Path) -> dict[str, str]:
    """Return the id of each job's run."""
    found = {}
    for name, folder in jobs(home).items():
        found[name] = json.loads((folder / "run.json").read_text())["run_id"]
    return found


def running(home: Path) -> list[str]:
    """Return the runs that the store has as running."""
    from mlflow import MlflowClient

    if not (home / "reglab.db").exists():
        return []
    client = MlflowClient(_uri(home))
    experiments = [each.experiment_id for each in client.search_experiments()]
    found = client.search_runs(experiments, "attributes.status = 'RUNNING'", max_results=1000)
    return [f"{run.info.run_name} ({run.info.run_id})" for run in found]


def held(home: Path) -> list[Path]:
    """Return the run folders that a living process holds."""
    from reglab.tracking.lock import is_running

    return [path.parent for path in home.rglob("run.lock") if is_running(path.parent)]


def read_rows(folder: Path) -> tuple[Rows, dict[tuple[str, int], int], int]:
    """Return the rows of a journal, the time of each, and how many are there twice."""
    rows: Rows = {}
    times: dict[tuple[str, int], int] = {}
    doubled = 0
    for line in (folder / "journal.jsonl").read_bytes().split(b"\n"):
        try:
            content = json.loads(line[line.rfind(b"\0") + 1 :] or b"{}")
        except ValueError:  # torn by a fault of ours
            continue
        for key, value in content.get("metrics", {}).items():
            place = (key, content["step"])
            doubled += place in rows
            rows.setdefault(place, value)
            times.setdefault(place, content["time"])
    return rows, times, doubled


def store_rows(home: Path, folder: Path) -> tuple[str, Counter[tuple[str, int, int]], Rows]:
    """Return what MLflow has of a run.

    Its status, how often each (key, step, time) is there, and the values.
    """
    from mlflow import MlflowClient

    client = MlflowClient(_uri(home))
    run = client.get_run(json.loads((folder / "run.json").read_text())["run_id"])
    count: Counter[tuple[str, int, int]] = Counter()
    values: Rows = {}
    for key in run.data.metrics:
        for metric in client.get_metric_history(run.info.run_id, key):
            count[key, metric.step, metric.timestamp] += 1
            values[key, metric.step] = metric.value
    return run.info.status, count, values


def differences(one: Path, other: Path) -> list[str]:
    """Return where two checkpoint files differ."""
    import torch

    if one.exists() != other.exists():
        return [f"{one.name} is there only once"]
    if not one.exists():
        return []
    left, right = (dict(_leaves(torch.load(path, map_location="cpu", weights_only=True))) for path in (one, other))
    if left.keys() != right.keys():
        return [f"{one.name} holds other things: {sorted(left.keys() ^ right.keys())[:4]}"]
    return [f"{one.name}{path}" for path in left if not same(left[path], right[path])]


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the numbers and tensors of a checkpoint that must not depend on its run's history."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if not str(key).startswith((*_OTHERWISE, *VOLATILE)):
                yield from _leaves(value, f"{path}/{key}")
    elif isinstance(node, (list, tuple)):
        for number, value in enumerate(node):
            yield from _leaves(value, f"{path}/{number}")
    elif not isinstance(node, str):
        yield path, node


def same(one: Any, other: Any) -> bool:
    """Return whether two numbers or tensors are the same bits, NaN being itself."""
    import torch

    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        if one.dtype != other.dtype or one.shape != other.shape:
            return False
        alike = one == other
        return bool((alike | ((one != one) & (other != other))).all())
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return bool(one == other)


def _uri(home: Path) -> str:
    return f"sqlite:///{home / 'reglab.db'}"
