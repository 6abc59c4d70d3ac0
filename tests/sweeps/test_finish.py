"""The end of a small real sweep: choice, test set, report, states of the runs."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from reglab import data
from reglab.cli.command import main
from reglab.core.errors import UserError
from training.job_case import SMALL, Case, checkpoint, close, loss_and_accuracy, outputs_by_hand

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")  # MLflow's own
HERE = "hydra/launcher=basic"  # in this process


@dataclass(frozen=True)
class Swept:
    case: Case
    code: int
    output: str

    @property
    def parent(self) -> Any:
        (parent,) = [run for run in self.case.runs() if run.data.tags["reglab.kind"] == "sweep"]
        return parent

    @property
    def parents(self) -> dict[str, str]:
        """The sweeps' run ids by their names."""
        return {
            run.info.run_name: run.info.run_id for run in self.case.runs() if run.data.tags["reglab.kind"] == "sweep"
        }

    @property
    def children(self) -> list[Any]:
        return [run for run in self.case.runs() if run.data.tags["reglab.kind"] == "job"]

    @property
    def tested(self) -> set[str]:
        return {run.info.run_id for run in self.children if any(key.startswith("test/") for key in run.data.metrics)}


def sweep(template: Path, folder: Path, *words: str) -> Swept:
    """Run ``reglab train -m`` with ``words`` in ``folder``."""
    from reglab.cli.train import train

    if not (folder / "reglab.db").exists():
        shutil.copy(template, folder / "reglab.db")
    with chdir(folder), redirect_stdout(StringIO()) as told:
        code = train(["-m", HERE, *SMALL, *words])
    return Swept(Case(folder), code, told.getvalue())


@pytest.fixture(scope="module")
def swept(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swept]:
    """Two settings by two seeds; the one of next to no learning rate is plainly the worse."""
    folder = tmp_path_factory.mktemp("swept")
    yield sweep(template, folder, "optimizer.lr=1e-6,0.03", "sweep.seeds=2")
    close(folder)


@pytest.fixture
def run(template: Path, tmp_path: Path) -> Iterator[Callable[..., Swept]]:
    """Run another sweep in a folder of the test's own."""
    yield lambda *words: sweep(template, tmp_path, *words)
    close(tmp_path)


def test_every_run_is_a_finished_child_of_the_finished_parent(swept: Swept) -> None:
    assert swept.code == 0
    assert swept.parent.info.status == "FINISHED"
    assert len(swept.children) == 4
    for run in swept.children:
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.parentRunId"] == swept.parent.info.run_id
        assert run.data.tags["reglab.sweep"] == swept.parent.info.run_id
    found = {(float(run.data.params["optimizer.lr"]), run.data.params["seed"]) for run in swept.children}
    assert found == {(rate, seed) for rate in (1e-6, 0.03) for seed in ("0", "1")}


def test_the_test_set_is_seen_by_the_chosen_setting_alone(swept: Swept) -> None:
    chosen = {run.info.run_id for run in swept.children if float(run.data.params["optimizer.lr"]) == 0.03}
    assert len(chosen) == 2
    assert swept.tested == chosen
    assert set(swept.parent.data.tags["reglab.test_touched_by"].split()) == chosen
    touched = {run.info.run_id for run in swept.children if run.data.tags.get("reglab.test_touched") == "true"}
    assert touched == chosen


def test_the_test_result_is_that_of_the_run_s_weights(swept: Swept) -> None:
    part = data.load({"name": "wine"}).test
    for run in sorted(swept.tested):
        state = checkpoint(swept.case.artifacts(run) / "checkpoints" / "last.ckpt")
        loss, accuracy = loss_and_accuracy(outputs_by_hand(state, part.inputs), part.targets)
        assert swept.case.metrics(run)["test/loss"] == pytest.approx(loss, abs=1e-6)
        assert swept.case.metrics(run)["test/accuracy"] == pytest.approx(accuracy, abs=1e-6)
        assert sorted(swept.case.steps(run, "test/loss")) == [3]


def test_the_report_is_an_artifact_of_the_parent_and_stands_alone(swept: Swept) -> None:
    parent = swept.parent
    page = swept.case.artifacts(parent.info.run_id) / "report.html"
    text = page.read_text(encoding="utf-8")
    assert parent.data.tags["reglab.verdict"].split(":")[0] in text
    assert "<svg" in text
    assert not any(outside in text for outside in ('src="http', 'href="http', "@import", "<script src"))
    assert len(list(swept.case.folder.rglob("report.html"))) == 2  # in the sweep's folder, and as the artifact


def test_verdict_and_way_on_are_printed_and_noted(swept: Swept) -> None:
    tags = swept.parent.data.tags
    output = " ".join(swept.output.split())
    for part in (tags["reglab.verdict"], "report.html", "Dashboard: reglab dashboard (in a checkout"):
        assert part in output
    assert tags["reglab.verdict"].rstrip(".") in tags["mlflow.note.content"]


def test_the_choice_is_registered_where_that_is_asked_once_also_when_the_command_is_given_again(
    run: Callable[..., Swept],
) -> None:
    for _ in range(2):
        done = run("data=digits", "optimizer.lr=1e-6,0.03", "sweep.test=false", "sweep.register=digits@champion")
        assert "Registered: digits version 1, alias champion" in done.output
    (version,) = done.case.client.search_model_versions("name = 'digits'")
    (chosen,) = (each for each in done.children if float(each.data.params["optimizer.lr"]) == 0.03)
    assert version.run_id == chosen.info.run_id
    assert done.case.client.get_model_version_by_alias("digits", "champion").version == version.version


@pytest.mark.parametrize(
    "words, advice",
    [
        (["sweep.register=a/b"], "a/b is no name of a model"),
        (["sweep.register=wine@latest"], "'latest' is no alias"),
        (["sweep.register=wine", "tracking=offline"], "needs tracking=mlflow"),
        (["sweep.register=wine", "sweep.report=false"], r"sweep\.report=false makes none"),
    ],
)
def test_what_cannot_be_registered_is_refused_before_a_job_starts(
    run: Callable[..., Swept], tmp_path: Path, words: list[str], advice: str
) -> None:
    with pytest.raises(UserError, match=advice):
        run("seed=0,1", *words)
    assert not (tmp_path / "runs").exists()


def test_a_number_that_runs_differ_in_can_be_sorted_and_filtered(swept: Swept, run: Callable[..., Swept]) -> None:
    """As MLflow's page asks its store: a param is text there, by which 0.001 is below 1e-4."""
    done = run("regularizer=[l1]", "regularizer.l1.strength=1e-4,0.001,0.01", "sweep.test=false", "sweep.report=false")
    key = "metrics.`regularizer/l1/strength`"
    (experiment,) = {each.info.experiment_id for each in done.children}
    found = done.case.client.search_runs([experiment], f"{key} < 0.005", order_by=[f"{key} DESC"])
    assert [each.data.params["regularizer.l1.strength"] for each in found] == ["0.001", "0.0001"]
    assert "regularizer/l1/strength" not in swept.children[0].data.metrics


def test_without_asking_no_run_sees_the_test_set(run: Callable[..., Swept]) -> None:
    done = run("optimizer.lr=1e-3,1e-2", "sweep.test=false")
    assert (done.code, done.tested) == (0, set())
    assert "reglab.test_touched_by" not in done.parent.data.tags
    assert (done.case.artifacts(done.parent.info.run_id) / "report.html").exists()


def test_a_diverged_job_fails_the_sweep_and_the_others_are_reported(run: Callable[..., Swept]) -> None:
    done = run("data=diabetes", "optimizer=sgd", "optimizer.lr=1e-3,1e6")
    assert done.code == 1
    assert done.parent.info.status == "FAILED"
    assert sorted(child.info.status for child in done.children) == ["FAILED", "FINISHED"]
    assert done.tested == {child.info.run_id for child in done.children if child.info.status == "FINISHED"}
    assert (done.case.artifacts(done.parent.info.run_id) / "report.html").exists()


def test_nothing_is_chosen_while_a_job_is_not_in_the_store(
    run: Callable[..., Swept], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("reglab.sweeps.sweep.send_unsent", lambda folder, uri: False)  # as while its server is away
        done = run("seed=0,1")
    assert (done.code, done.tested, done.parent.info.status) == (1, set(), "FAILED")
    again = run("seed=0,1")
    assert (again.code, len(again.children), again.parent.info.status) == (0, 2, "FINISHED")
    assert len(again.tested) == 2


def test_a_sweep_without_a_report_leaves_the_test_set_alone(run: Callable[..., Swept]) -> None:
    done = run("seed=0,1", "sweep.report=false")
    assert (done.code, done.parent.info.status, done.tested) == (0, "FINISHED", set())
    assert not list(done.case.folder.rglob("report.html"))


def test_a_test_set_that_others_saw_is_no_longer_untouched(run: Callable[..., Swept], tmp_path: Path) -> None:
    from reglab.cli.train import train

    first = run("optimizer.lr=1e-3,1e-2", "name=first")
    assert "touched once for" in first.output
    with chdir(tmp_path), redirect_stdout(StringIO()):
        train([*SMALL, "measure.test=true", "name=alone"])
        train([*SMALL, "measure.test=true", "name=elsewhere", "tracking.experiment=another study"])
        train([*SMALL, "measure.test=true", "name=on other data", "data.split_seed=1"])
        train([*SMALL, "name=untested"])
    (alone,) = [each for each in first.case.runs() if each.info.run_name == "alone"]
    first.case.client.delete_run(alone.info.run_id)  # which does not unsee it
    second = run("optimizer.lr=1e-3,1e-2", "name=second", "sweep.again=true")
    said = "This test set was looked at before: 3 runs of first, alone and elsewhere, so this result is no longer"
    assert said in " ".join(second.output.split())
    assert "touched once" not in second.output
    parent = second.parents["second"]
    assert said in second.case.run(parent).data.tags["mlflow.note.content"]
    assert said in (second.case.artifacts(parent) / "report.html").read_text(encoding="utf-8")
    assert said in reported(tmp_path, parent)
    assert "looked at before" not in reported(tmp_path, first.parents["first"])


def reported(folder: Path, *words: str) -> str:
    """Return what ``reglab report`` prints, its lines joined."""
    with chdir(folder), redirect_stdout(StringIO()) as told:
        assert main(["report", *words]) == 0
    return " ".join(told.getvalue().split())


def test_another_store_is_named_where_the_dashboard_is(
    run: Callable[..., Swept], template: Path, tmp_path: Path
) -> None:
    other = tmp_path / "another place"
    other.mkdir()
    shutil.copy(template, other / "reglab.db")
    words = ("tracking.uri=sqlite:///another place/reglab.db", "measure.monitor=val/accuracy")
    done = run("optimizer.lr=1e-6,0.03", *words)
    hint = f"Dashboard: reglab dashboard --uri 'sqlite:///{other}/reglab.db'"
    said = " ".join(done.output.split())
    assert hint in said
    assert "validation accuracy" in said.partition("is best:")[2][:30]
    (page,) = tmp_path.glob("runs/**/report.html")
    again = reported(tmp_path, str(page.parent))
    assert again.partition("Report:")[0] == said.partition("Report:")[0]  # the same table, verdict and test result
    assert "On the test set" in again
    assert hint in again
    close(other)
