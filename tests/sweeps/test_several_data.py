"""A sweep over two data sets and three training samples: a choice, a test and bias and variance for each."""

import csv
import shutil
from collections.abc import Iterator
from contextlib import chdir, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest

from reglab.analysis.per_example_file import read
from reglab.cli.command import main
from reglab.reports.collect import collect_by_data
from reglab.reports.sweep import choose_each
from sweeps.test_finish import HERE, Swept
from training.job_case import SMALL, Case, close

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")  # MLflow's own
KNOWN = "{data: sparse_regression, data.informative: 5, data.features: 8, data.train_size: null, regularizer: [l2]}"
SAMPLES = ("data.replicas=3", "data.replica=range(3)", "init_seed=1")


@pytest.fixture(scope="module")
def swept(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swept]:
    folder = tmp_path_factory.mktemp("several")
    shutil.copy(template, folder / "reglab.db")
    blocks = f"sweep.blocks=[{{data: wine, regularizer: [l2]}}, {KNOWN}]"
    with chdir(folder), redirect_stdout(StringIO()) as told:
        code = main(["train", "-m", HERE, *SMALL[1:], *SAMPLES, blocks])
    yield Swept(Case(folder), code, told.getvalue())
    close(folder)


def rows(swept: Swept, name: str) -> dict[tuple[str, str], float]:
    (path,) = swept.case.folder.glob(f"runs/*/*/bias_variance-{name}.csv")
    with path.open() as file:
        return {(row["loss"], row["part"]): float(row["value"]) for row in csv.DictReader(file)}


def test_each_data_set_has_its_choice_its_test_and_its_report(swept: Swept) -> None:
    assert swept.code == 0
    names = {run.data.params["data.name"] for run in swept.children}
    assert len(names) == 2
    for name in names:
        (page,) = swept.case.folder.glob(f"runs/*/*/report-{name}.html")
        assert "Bias and variance" in page.read_text()
        assert f"report-{name}.html" in swept.output
    assert len(swept.tested) == 6
    assert swept.parent.data.tags["reglab.chosen"] == "l2 0.001; l2 0.001"
    assert len(swept.parent.data.tags["reglab.test_touched_by"].split()) == 6


def test_the_parts_are_those_of_the_runs_own_outputs(swept: Swept) -> None:
    found = rows(swept, "sparse_regression")
    kept = [
        read(swept.case.folder / "mlartifacts" / run.info.run_id / "artifacts" / "examples.npz")
        for run in swept.children
        if run.data.params["data.name"] == "sparse_regression"
    ]
    outputs = np.stack([each.val_outputs[:, 0] for each in kept]).astype(np.float64)
    assert found["squared error", "variance"] == pytest.approx(outputs.var(0, ddof=1).mean(), rel=1e-6)
    noise = ((kept[0].val_targets - kept[0].val_expected) ** 2).mean()
    assert found["squared error", "noise"] == pytest.approx(noise, rel=1e-6)
    assert found["squared error", "risk"] == pytest.approx(np.mean([each.val_loss.mean() for each in kept]), rel=1e-6)


def test_classes_have_three_losses(swept: Swept) -> None:
    (name,) = {run.data.params["data.name"] for run in swept.children} - {"sparse_regression"}
    assert {loss for loss, _ in rows(swept, name)} == {"cross-entropy", "Brier score", "error"}


def test_a_data_set_without_results_costs_the_others_nothing(swept: Swept, tmp_path: Path) -> None:
    found = collect_by_data(swept.case.uri, swept.parent.info.run_id)
    assert [data.jobs for data in found.values()] == [3, 3]
    wine = found["wine"]
    found["wine"] = replace(wine, trials=tuple(replace(trial, status="FAILED") for trial in wine.trials))
    choices, without = choose_each(found)
    assert list(choices) == ["sparse_regression"]
    assert without[0].startswith("wine: nothing to choose from")


def test_a_command_about_one_run_names_the_choices(
    swept: Swept, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(swept.case.folder)
    assert main(["export", swept.parent.info.run_id]) == 2
    assert "the sweep has several data sets (" in capsys.readouterr().err
