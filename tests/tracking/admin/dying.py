"""A process whose children die.

One for each line of JSON on standard input, answered by the exit code.

A line says what the child does (``action`` in ``folder``), and the function in front of or behind
whose n-th call it dies (``step``, ``when``, ``call``). MLflow and its stores are imported once.
"""

import importlib
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mlflow import MlflowClient

from reglab.tracking import RunSpec, TrackingSettings, finish_runs, open_runs, open_sweep
from reglab.tracking.admin.sync import sync
from reglab.tracking.mlflow import store  # noqa: F401 - with MLflow's own, which takes each child a second

CODE = 9
STEPS = 40
DATA = SimpleNamespace(name="digits", digest="0123456789abcdef" * 4, summary={"rows": 100})


def specs(folder: Path, parent: str) -> list[RunSpec]:
    params = {"seed": 1, "sweep.parent": parent}
    return [RunSpec(f"job {n}", folder / str(n), {"a": 1}, params, {"n": n}, DATA, parent) for n in range(2)]


def record(settings: TrackingSettings, folder: Path) -> None:
    """A sweep of two runs of 40 rows each, one of them failed."""
    sweep = open_sweep(settings, name="sweep", folder=folder, params={}, tags={})
    runs = open_runs(settings, specs(folder, sweep.run_id))
    for run in runs:
        for step in range(STEPS):
            run.log({"loss": 1 / (1 + step)}, step)
    finish_runs([*runs, sweep], ["FINISHED", "FAILED", "FINISHED"])


def act(action: str, folder: Path) -> None:
    settings = TrackingSettings.from_config({"experiment": "study"}, folder)
    if action == "online":
        record(settings, folder / "runs")
    elif action == "offline":
        record(replace(settings, backend="offline"), folder / "runs")
    elif action == "again":  # a new run in the folder of an old one
        spec = replace(specs(folder / "runs", "")[0], name="second")
        finish_runs(open_runs(replace(settings, backend="offline"), [spec]), ["FINISHED"])
    else:
        sync([folder / "runs"], say=lambda text: None)


def mortal(step: str, when: str, call: int) -> None:
    """Make the function ``step`` fatal when it is called for the ``call``-th time."""
    name, _, attribute = step.rpartition(".")
    classes: dict[str, Any] = {"MlflowClient": MlflowClient, "Path": Path}
    owner = classes.get(name) or importlib.import_module(f"reglab.tracking.{name}")
    plain = getattr(owner, attribute)
    calls = iter(range(1, 1_000_000))  # which threads share

    def fatal(*given: Any, **named: Any) -> Any:
        last = next(calls) == call
        if last and when == "before":
            os._exit(CODE)
        result = plain(*given, **named)
        if last:
            os._exit(CODE)
        return result

    setattr(owner, attribute, fatal)


def serve() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if not child:
            if asked.get("step"):
                mortal(asked["step"], asked["when"], asked["call"])
            act(asked["action"], Path(asked["folder"]))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
