"""``reglab.sweep``: sweep a Python function of the user's, with ledger, choice and report."""

import inspect
import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from reglab.analysis.formatting import plural
from reglab.config.fingerprint import hash_config
from reglab.core.errors import UserError
from reglab.core.keywords import nearest_keyword
from reglab.sweeps import ledger
from reglab.sweeps.finish import show
from reglab.sweeps.function_job import FunctionJob, run_function
from reglab.sweeps.lock import start_lock, sweep_lock
from reglab.tracking import RunTracker, TrackingSettings, open_sweep, reopen_run
from reglab.tracking.folder_gate import check_sweep_folder

Value = int | float | str | bool | None


@dataclass(frozen=True)
class Sweep:
    """What a sweep of a function found.

    Attributes:
        best: The chosen values by name.
        choice: Its label in the report.
        verdict: In words.
        run_id: MLflow's, of the sweep.
        report: The page.
    """

    best: dict[str, Value]
    choice: str
    verdict: str
    run_id: str
    report: Path

    def __str__(self) -> str:
        return self.verdict


@nearest_keyword
def sweep(
    function: Callable[..., Any],
    values: Mapping[str, Sequence[Value]],
    *,
    seeds: int | Sequence[int] = 1,
    tracking: str | None = None,
    experiment: str | None = None,
    again: bool = False,
) -> Sweep:
    """Call ``function`` with every combination of ``values`` and each seed, record what it returns,
    choose and report.

    ``reglab.sweep(build_and_fit, {"l1": reglab.log(1e-5, 1e-2, 6)}, seeds=3)`` calls
    ``build_and_fit(l1=..., seed=...)`` 18 times, one after the other, global generators seeded
    before each call. The same sweep again runs only what is left of it: calls that raised, were
    interrupted or never began. It is the same where the function's own source, values and seeds
    are; what the function calls is not looked at.

    Args:
        function: Returns the ``Regularize`` that measured its training, or metrics by name, with
            ``val/loss`` among them.
        values: A list of numbers, texts or flags by argument.
        seeds: How many, from 0 on, or which.
        tracking: An MLflow URI such as ``sqlite:///reglab.db``; None: that of
            MLFLOW_TRACKING_URI, or ``reglab.db`` in the working folder.
        experiment: The MLflow experiment; None: MLFLOW_EXPERIMENT_NAME, or ``reglab``.
        again: Run everything anew, as another sweep.

    Raises:
        UserError: For what cannot be called so, or if no call had a result.
    """
    jobs = _jobs(function, values, seeds)
    settings = TrackingSettings.from_config({"uri": tracking, "experiment": experiment})
    with ExitStack() as locks:
        parent, done = _open(function, jobs, settings, again, locks)
        try:
            left = [job for job in jobs if job.number not in done]
            for count, job in enumerate(left, len(jobs) - len(left) + 1):
                _say(f"{count} of {len(jobs)}: {job.label}: {run_function(function, job, settings, parent)}")
            parent.flush()
            result = _finished(jobs, settings, parent)
        except KeyboardInterrupt:
            _say("stopped; the same sweep again runs what is left")
            parent.finish("KILLED")
            raise
        except BaseException:
            parent.finish("FAILED")
            raise
        parent.finish("FINISHED")
    return result


def _jobs(
    function: Callable[..., Any], values: Mapping[str, Sequence[Value]], seeds: int | Sequence[int]
) -> list[FunctionJob]:
    """Return a call for each combination and seed, the seeds of a setting together."""
    wanted = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    if isinstance(seeds, bool) or not wanted or not all(type(seed) is int and seed >= 0 for seed in wanted):
        raise UserError(f"seeds must be a number of seeds, 1 or more, or a list of them, got {seeds!r}")
    for name, each in values.items():
        if isinstance(each, str) or not isinstance(each, Sequence) or not each:
            raise UserError(f"values of {name} must be a list, such as reglab.log(1e-5, 1e-2, 6), got {each!r}")
        if not all(value is None or isinstance(value, (int, float, str, bool)) for value in each):
            raise UserError(
                f"values of {name} must be numbers, texts or flags, from which your function makes the rest"
            )
    try:
        inspect.signature(function).bind(**dict.fromkeys(values), seed=0)
    except TypeError as error:
        raise UserError(
            f"the function is called with {', '.join([*values, 'seed'])} by name, and {_name(function)} takes others: "
            f"{error}"
        ) from error
    settings = [dict(zip(values, each, strict=True)) for each in itertools.product(*values.values())]
    calls = itertools.product(settings, wanted)
    return [FunctionJob(number, setting, seed) for number, (setting, seed) in enumerate(calls)]


def _open(
    function: Callable[..., Any],
    jobs: Sequence[FunctionJob],
    settings: TrackingSettings,
    again: bool,
    locks: ExitStack,
) -> tuple[RunTracker, set[int]]:
    """Open the sweep's run, or that of the same sweep before, and return the jobs that are done."""
    from reglab.tracking.mlflow.ledger import FINGERPRINT, FOLDER  # late: mlflow

    fingerprint = hash_config([_name(function), _source(function), [[job.values, job.seed] for job in jobs]])
    with start_lock(settings.uri):
        folder = None if again else ledger.earlier_folder(settings, fingerprint)
        if folder is not None:
            locks.enter_context(sweep_lock(check_sweep_folder(folder)))
            done = set(ledger.concluded_runs(settings.uri, folder))
            _say(f"resuming the sweep in {folder}: {len(done)} of {plural(len(jobs), 'call')} are finished")
            return reopen_run(folder), done
        folder = (Path("runs") / datetime.now().strftime("%Y-%m-%d/%H-%M-%S-%f")).absolute()
        folder.mkdir(parents=True)
        locks.enter_context(sweep_lock(folder))
        tags = {FINGERPRINT: fingerprint, FOLDER: folder, "reglab.jobs": len(jobs)}
        parent = open_sweep(settings, name=_name(function), folder=folder, params={}, tags=tags)
    return parent, set()


def _finished(jobs: Sequence[FunctionJob], settings: TrackingSettings, parent: RunTracker) -> Sweep:
    """Choose, write the report and print it."""
    from reglab.reports.sweep import report

    (written,) = report(settings.uri, parent.run_id, parent.folder)
    show(settings.uri, written)
    parent.note(written.note)
    parent.artifact(written.path)
    chosen = written.choice.chosen
    parent.tag(**{"reglab.chosen": chosen.label, "reglab.verdict": written.verdict.splitlines()[0]})
    best = jobs[int(chosen.trials[0].number)].values
    return Sweep(dict(best), chosen.label, written.verdict, parent.run_id, written.path)


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _source(function: Callable[..., Any]) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):  # typed into an interpreter, or no function at all
        return ""


def _say(text: str) -> None:
    print(text, file=sys.stderr)
