"""Sweeps that are launched again: small real ones, judged by MLflow's own client."""

import os
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

import forked
from reglab.core.errors import UserError
from reglab.launchers import local
from reglab.launchers.display import Display
from reglab.launchers.events import EpochEnded
from reglab.sweeps.lock import sweep_lock
from training.job_case import SMALL, Case, close

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")  # MLflow's own
HERE = "hydra/launcher=basic"  # in this process
DIE = """
import os, sys
from pathlib import Path
from reglab.tracking import reopen_run
reopen_run(Path(sys.argv[1])).flush()
os._exit(9)
"""


@dataclass(frozen=True)
class Again:
    """A working folder in which ``reglab train -m`` is given again and again."""

    case: Case

    def __call__(self, *words: str, launcher: str = HERE) -> tuple[int, str]:
        """Return exit code and what was said on standard error."""
        from reglab.cli.train import train

        with chdir(self.case.folder), redirect_stdout(StringIO()), redirect_stderr(StringIO()) as told:
            code = train(["-m", launcher, *SMALL, "trainer.max_epochs=2", *words])
        return code, told.getvalue()

    @property
    def sweeps(self) -> list[Any]:
        return [run for run in self.case.runs() if run.data.tags["reglab.kind"] == "sweep"]

    @property
    def folder(self) -> Path:
        """Where the only sweep ran."""
        (sweep,) = self.sweeps
        return Path(sweep.data.tags["reglab.folder"])

    @property
    def jobs(self) -> list[Any]:
        """All attempts, by job and start."""
        found = [run for run in self.case.runs() if run.data.tags["reglab.kind"] == "job"]
        return sorted(found, key=lambda run: (int(run.data.tags["reglab.job"]), run.info.start_time))

    @property
    def states(self) -> dict[str, list[str]]:
        """The attempts at each job, in order."""
        found: dict[str, list[str]] = {}
        for run in self.jobs:
            found.setdefault(run.data.tags["reglab.job"], []).append(run.info.status)
        return found


@pytest.fixture
def sweep(template: Path, tmp_path: Path) -> Iterator[Again]:
    folder = tmp_path / "it's a folder"  # which Hydra's grammar needs in quotes
    folder.mkdir()
    shutil.copy(template, folder / "reglab.db")
    yield Again(Case(folder))
    close(folder)


class Impatient(Display):
    """Presses Ctrl-C when the second job has told of its first epoch."""

    def on_event(self, event: Any) -> None:
        super().on_event(event)
        if isinstance(event, EpochEnded) and event.job == 1:
            os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupted_sweep_runs_only_the_rest(sweep: Again, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("optimizer.lr=1e-3,1e-2,1e-1", "trainer.max_epochs=30", "hydra.launcher.workers=1")
    monkeypatch.setattr(local, "Display", Impatient)
    with pytest.raises(KeyboardInterrupt):
        sweep(*words, launcher="hydra/launcher=local")
    monkeypatch.undo()
    assert sweep.states == {"0": ["FINISHED"], "1": ["KILLED"]}
    assert [run.info.status for run in sweep.sweeps] == ["KILLED"]
    code, told = sweep(*words, launcher="hydra/launcher=local")
    assert code == 0
    assert f"resuming the sweep in {sweep.folder}: 1 of 3 jobs is finished, 2 to run" in told
    assert sweep.states == {"0": ["FINISHED"], "1": ["FINISHED"], "2": ["FINISHED"]}  # the same run went on
    assert [run.info.status for run in sweep.sweeps] == ["FINISHED"]
    assert [run.data.params["optimizer.lr"] for run in sweep.jobs] == ["0.001", "0.01", "0.1"]
    newest = {run.data.tags["reglab.job"]: run.info.run_id for run in sweep.jobs}
    assert all(run in (sweep.folder / job / "run.json").read_text() for job, run in newest.items())
    (parent,) = sweep.sweeps
    assert "no run" not in parent.data.tags["mlflow.note.content"]  # the report has all jobs


def test_where_all_is_finished_only_the_report_is_made_again(sweep: Again) -> None:
    assert sweep("seed=0,1")[0] == 0
    before = [run.info.run_id for run in sweep.jobs]
    (sweep.folder / "report.html").unlink()
    code, told = sweep("name=renamed", "trainer.accelerator=auto", "seed=0,1")
    assert (code, "2 of 2 jobs are finished, 0 to run" in told) == (0, True)
    assert [run.info.run_id for run in sweep.jobs] == before
    assert (sweep.folder / "report.html").exists()
    assert [run.info.status for run in sweep.sweeps] == ["FINISHED"]
    for run in before:  # the test set was not touched twice
        assert len(sweep.case.client.get_metric_history(run, "test/loss")) == 1
    sweeps = len(list(sweep.case.folder.glob("runs/*/*")))
    assert sweeps == 1


def test_sweep_again_is_a_new_sweep_which_then_is_the_one_that_goes_on(sweep: Again) -> None:
    sweep("seed=0", "sweep.report=false")
    (first,) = sweep.sweeps
    sweep("seed=0", "sweep.report=false", "sweep.again=true")
    (second,) = [run for run in sweep.sweeps if run.info.run_id != first.info.run_id]
    assert Counter(run.data.tags["reglab.sweep"] for run in sweep.jobs) == {first.info.run_id: 1, second.info.run_id: 1}
    assert second.data.tags["reglab.folder"] in sweep("seed=0", "sweep.report=false")[1]
    assert len(sweep.jobs) == 2


def test_other_jobs_and_another_experiment_are_other_sweeps(sweep: Again) -> None:
    for words in ([], ["optimizer.lr=0.02"], ["tracking.experiment=other"]):
        assert "resuming the sweep" not in sweep("seed=0", "sweep.report=false", *words)[1]
    assert len(sweep.sweeps) == len(sweep.jobs) == 3


def test_a_diverged_job_is_not_repeated_and_the_sweep_stays_failed(sweep: Again) -> None:
    words = ("data=diabetes", "optimizer=sgd", "optimizer.lr=1e-3,1e6", "sweep.report=false")
    assert sweep(*words)[0] == 1
    code, told = sweep(*words)
    assert code == 1
    assert "1 of 2 jobs is finished, 1 diverged and would diverge again, 0 to run" in told
    assert "optimizer.lr ten times smaller" in told  # why it failed, as before
    assert sweep.states == {"0": ["FINISHED"], "1": ["FAILED"]}


def test_failed_and_dead_jobs_run_again(sweep: Again) -> None:
    words = ("seed=range(0,4)", "sweep.report=false")
    sweep(*words)
    failed, dead, lost, torn = [run.info.run_id for run in sweep.jobs]
    sweep.case.client.set_terminated(failed, "FAILED")
    forked.run(["-c", DIE, sweep.folder / "1"], cwd=sweep.case.folder)
    sweep.case.client.update_run(lost, "RUNNING")
    shutil.rmtree(sweep.folder / "2")
    sweep.case.client.update_run(torn, "RUNNING")
    (sweep.folder / "3" / "run.json").write_text('{"run_id": ')
    assert [state for (state,) in sweep.states.values()] == ["FAILED", "RUNNING", "RUNNING", "RUNNING"]
    assert sweep(*words)[0] == 0
    again = {"0": ["FAILED", "FINISHED"], "1": ["FINISHED"], "2": ["KILLED", "FINISHED"], "3": ["KILLED", "FINISHED"]}
    assert sweep.states == again
    assert sweep.case.run(dead).data.tags["reglab.resumed"] == "1"  # as the same run


def test_jobs_whose_data_changed_run_again_and_the_old_results_count_no_more(sweep: Again) -> None:
    write_table(sweep.case.folder / "a.csv", slope=1.0)
    write_table(sweep.case.folder / "b.csv", slope=2.0)
    words = ("data=table", "data.path=a.csv,b.csv", "data.target=y", "data.task=regression", "sweep.test=false")
    assert sweep(*words)[0] == 0
    write_table(sweep.case.folder / "b.csv", slope=3.0)
    code, told = sweep(*words)
    assert code == 0
    assert "the data of 1 job changed since it ran: its result no longer counts" in told
    assert "1 of 2 jobs is finished, 1 to run" in told
    assert sweep.states == {"0": ["FINISHED"], "1": ["FINISHED", "FINISHED"]}
    kept, old, new = sweep.jobs
    assert old.data.tags["reglab.superseded"] == "the data changed"
    assert not {"reglab.superseded"} & {*kept.data.tags, *new.data.tags}
    digests = [run.data.tags["reglab.data_digest"][:16] for run in (kept, old, new)]
    page = "".join((sweep.folder / f"report-{name}.csv.html").read_text() for name in "ab")
    assert [digest in page for digest in digests] == [True, False, True]
    assert "2 of 2 jobs are finished" in sweep(*words, "sweep.report=false")[1]


def write_table(path: Path, slope: float) -> None:
    rows = [f"{x},{(x * 7) % 11},{slope * x + (x * 5) % 3}" for x in range(60)]
    path.write_text("\n".join(["x,z,y", *rows]) + "\n")


def test_a_sweep_whose_folder_is_gone_starts_anew_and_says_so(sweep: Again) -> None:
    sweep("seed=0", "sweep.report=false")
    shutil.rmtree(sweep.folder)
    _, told = sweep("seed=0", "sweep.report=false")
    assert "is not on this machine. A new sweep starts" in told
    assert len(sweep.sweeps) == len(sweep.jobs) == 2


def test_a_sweep_that_is_running_is_not_started_twice(sweep: Again) -> None:
    sweep("seed=0", "sweep.report=false")
    with sweep_lock(sweep.folder), pytest.raises(UserError, match=f"process {os.getpid()} is running the sweep"):
        sweep("seed=0", "sweep.report=false")
    assert sweep("seed=0", "sweep.report=false")[0] == 0
    assert [run.info.status for run in sweep.sweeps] == ["FINISHED"]


def test_the_same_command_given_while_the_first_checks_its_data_is_one_sweep(
    sweep: Again, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["-m", HERE, *SMALL, "trainer.max_epochs=2", "seed=0"]
    others = []

    def meanwhile(*_: Any, **__: Any) -> None:
        if not others:
            others.append(forked.run(["-m", "reglab", "train", *words], cwd=sweep.case.folder))

    monkeypatch.setattr("reglab.sweeps.sweep.check_data", meanwhile)
    code, told = sweep("seed=0")
    assert [code, *(other.returncode for other in others)] == [0, 0]
    assert "1 of 1 job is finished, 0 to run" in told
    assert len(sweep.sweeps) == len(sweep.jobs) == 1


def test_sweep_again_is_yes_or_no(sweep: Again) -> None:
    with pytest.raises(UserError, match=r"sweep\.again must be true or false, got 'maybe'"):
        sweep("seed=0", "sweep.again=maybe")
