"""``reglab report --experiment``: runs of a plain Lightning script, by Lightning's own logger, and of
``reglab train``, in one report.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import chdir
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from mlflow import MlflowClient
from pytorch_lightning.loggers import MLFlowLogger
from torch.nn.functional import cross_entropy
from torch.optim import Adam
from torch.utils.data import DataLoader

from callback.own_module import LIGHTNING_WARNS, OwnModule, dataset, trainer
from reglab import L1, L2, Regularize
from reglab.cli.command import main
from reglab.reports.collect import collect_experiment

pytestmark = LIGHTNING_WARNS
STRENGTHS = (1e-3, 1e-1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, template: Path) -> Iterator[Path]:
    """A working folder whose store has what a script of two seeds logged."""
    made = tmp_path_factory.mktemp("script")
    shutil.copy(template, made / "reglab.db")
    with chdir(made), pytest.MonkeyPatch.context() as patch:
        for seed in ("0", "1"):
            patch.setenv("PL_GLOBAL_SEED", seed)  # as seed_everything does
            for members in ([], [L1(STRENGTHS[0])], [L1(STRENGTHS[1])], [L2(1e-2)]):
                logger = MLFlowLogger("mine", tracking_uri=store(made), artifact_location=str(made / "kept"))
                run = trainer([Regularize(members, "classification")], epochs=4, logger=logger)
                data = DataLoader(dataset(48, 2 + int(seed)), 8), DataLoader(dataset(40, 3), 40)
                run.fit(OwnModule(lambda weights: Adam(weights, 1e-2)), *data)
        yield made


def store(folder: Path) -> str:
    """Return the store by its whole path: MLflow remembers a relative one, wherever it was used first."""
    return f"sqlite:///{folder / 'reglab.db'}"


def runs(folder: Path, name: str) -> list[Any]:
    client = MlflowClient(f"sqlite:///{folder / 'reglab.db'}")
    return list(client.search_runs([client.get_experiment_by_name(name).experiment_id]))


def test_a_script_is_compared_as_a_sweep_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = collect_experiment(f"sqlite:///{folder / 'reglab.db'}", "mine")
    choice = data.choose()
    assert [(c.block, len(c.trials)) for c in choice.candidates] == [("none", 2), ("l1", 2), ("l1", 2), ("l2", 2)]

    by_setting: dict[tuple[str, str], list[float]] = {}
    for run in runs(folder, "mine"):
        tags, metrics = run.data.tags, run.data.metrics
        assert metrics["final/val/loss"] == pytest.approx(metrics["val/loss"])  # which Lightning logs in float32
        assert metrics["final/epoch"] == 4
        by_setting.setdefault((tags["reglab.regularizer"], tags["reglab.strength"]), []).append(metrics["val/loss"])
    assert {label for label, _ in by_setting} == {"none", "l1", "l2"}
    best = min(by_setting, key=lambda setting: fmean(by_setting[setting]))
    assert choice.best.block == best[0]
    assert choice.best.mean("val/loss") == pytest.approx(fmean(by_setting[best]))
    assert set(data.results) == {run.info.run_id for run in runs(folder, "mine")}  # examples, to pair by

    assert main(["report", "--experiment", "mine"]) == 0
    assert "mine: 4 settings" in capsys.readouterr().out
    assert (folder / "report.html").is_file()


def own_loss(reduction: str, module: Any, batch: Any) -> Any:
    return cross_entropy(module(batch[0]), batch[1], reduction=reduction)


def test_a_script_with_a_loss_of_its_own_is_compared_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By rows, whose losses pair the runs, and by batches, which have none."""
    for name, reduction in (("by row", "none"), ("by batch", "mean")):
        for members in ([], [L2(1e-2)]):
            logger = MLFlowLogger(name, tracking_uri=store(folder), artifact_location=str(folder / name))
            callback = Regularize(members, loss=partial(own_loss, reduction))
            run = trainer([callback], epochs=2, logger=logger)
            run.fit(OwnModule(), DataLoader(dataset(48, 2), 8), DataLoader(dataset(40, 3), 40))
        data = collect_experiment(f"sqlite:///{folder / 'reglab.db'}", name)
        assert {c.block: c.mean("val/loss") for c in data.choose().candidates}.keys() == {"none", "l2"}
        assert len(data.results) == (2 if reduction == "none" else 0)
        assert main(["report", "--experiment", name]) == 0
        said = capsys.readouterr().out
        assert f"{name}: 2 settings" in said
        assert "nan" not in said.lower()


def test_runs_with_our_metrics_alone_are_settings_by_their_names(folder: Path) -> None:
    client = MlflowClient(f"sqlite:///{folder / 'reglab.db'}")
    experiment = client.create_experiment("theirs", artifact_location=str(folder / "theirs"))
    for name, loss in (("baseline", 0.5), ("with tricks", 0.4)):
        run = client.create_run(experiment, run_name=name)
        for key, value in {"val/loss": loss, "train/loss": 0.1, "gap/loss": loss - 0.1, "theirs": 1.0}.items():
            client.log_metric(run.info.run_id, key, value, step=3)
        client.set_terminated(run.info.run_id)
    client.create_run(experiment, run_name="nothing measured")
    choice = collect_experiment(f"sqlite:///{folder / 'reglab.db'}", "theirs").choose()
    assert {c.block: c.mean("val/loss") for c in choice.candidates} == {"baseline": 0.5, "with tricks": 0.4}


def test_a_script_and_a_run_of_another_data_set_are_told_apart(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "data=wine", "trainer.max_epochs=1", "tracking.experiment=mixed", "model=linear"]) == 0
    client = MlflowClient(f"sqlite:///{folder / 'reglab.db'}")
    run = client.create_run(client.get_experiment_by_name("mixed").experiment_id, run_name="a script's")
    client.log_metric(run.info.run_id, "val/loss", 0.5, step=1)
    capsys.readouterr()
    assert main(["report", "--experiment", "mixed"]) == 2
    said = capsys.readouterr().err
    assert "1 run of wine" in said
    assert "1 run of a data set that they do not name" in said


def test_a_sweep_and_a_single_run_stand_in_one_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["data=wine", "trainer.max_epochs=1", "tracking.experiment=both", "model=linear"]
    assert main(["train", *common, "regularizer=[l2]"]) == 0
    assert main(["train", "-m", *common, "seed=0,1", "sweep.report=false", "hydra.launcher.workers=1"]) == 0
    choice = collect_experiment(f"sqlite:///{folder / 'reglab.db'}", "both").choose()
    assert {c.block: len(c.trials) for c in choice.candidates} == {"l2": 1, "none": 2}

    assert main(["train", "data=breast_cancer", *common[1:]]) == 0
    capsys.readouterr()
    assert main(["report", "--experiment", "both"]) == 2
    assert "has 3 runs of wine and 1 run of breast_cancer, which cannot be compared" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, message",
    [
        (["--experiment", "mien"], "no experiment 'mien' in .*; did you mean 'mine'?"),
        (["--experiment", "Default"], "has a validation loss: train some by reglab train tracking.experiment=Default"),
        (["--experiment", "mine", "--rule", "worst"], "worst"),
        (["--experiment", "mine", "a-sweep"], "give a sweep, as in reglab report RUN, or an experiment"),
        ([], "give a sweep, as in reglab report RUN, or an experiment"),
    ],
    ids=str,
)
def test_what_is_not_there_is_told(
    folder: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", *words]) == 2
    assert re.search(message, capsys.readouterr().err)
