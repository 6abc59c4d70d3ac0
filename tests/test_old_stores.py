"""What an earlier version wrote stays readable: its sweeps are launched again, reported and resumed.

The working folder was made at 70acfc2. tests/fixtures/README.md says what is in it and how it was made.
"""

import json
import sqlite3
import tarfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import reglab
from fixtures.make_old_store import MOVED_FROM, padded, relocate, runs
from reglab.cli import main
from reglab.config.fingerprint import fingerprint
from reglab.config.paths import conf_dir

ARCHIVE = Path(__file__).parent / "fixtures/store_70acfc2.tar.xz"
EPOCHS = 12  # of what was killed

# What has changed since on purpose; everything else must stay.
NEW_PRINTS = {
    "regularizer=[ema]",  # averages without the initial weights, and has a warm-up of its own
    "debug=quick",  # had fewer resamples of the bootstrap, which intervals in closed form replace
}
NEW_TAGS = {"reglab.directions"}
NEW_SWEEP_TAGS = {"reglab.rule"}
NEW_PARAMS = {
    "loss",
    "measure.scores",
    "sweep.rule",
    "sweep.register",
    "trainer.polish_steps",
    "init_seed",
    "regularizer.ema.warmup",
}
GONE_PARAMS = {"measure.resamples"}
# Where a run is recorded is in its config.yaml.
GONE_PARAMS |= {"name", "trust", *(f"tracking.{key}" for key in ("name", "uri", "experiment", "artifacts", "points"))}
# A sweep told its jobs by hidden keys, which single runs recorded as null.
GONE_PARAMS |= {f"sweep.{key}" for key in ("parent", "block", "job", "after", "start", "trail", "resume")}
NEW_SCORES = {"rmse"}  # of a regression, beside r2
NEW_OF_TEST = ("_se", "_low", "_high")  # the test result has an interval


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of the earlier version, as if it had always been here."""
    folder = padded(tmp_path.resolve())
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    relocate(folder, MOVED_FROM, str(folder))
    monkeypatch.chdir(folder)
    return folder


def texts(home: Path) -> Any:
    return json.loads((home / "reference.json").read_text())


def tensors(home: Path) -> Any:
    return torch.load(home / "reference.pt", weights_only=True)


def command(home: Path, name: str) -> list[str]:
    """Return the words by which the earlier version was told to record in the experiment ``name``."""
    return ["train", *texts(home)["commands"][name]]


def asked(home: Path, query: str, *values: object) -> list[Any]:
    with closing(sqlite3.connect(home / "reglab.db")) as store:
        return store.execute(query, values).fetchall()


def sweep(home: Path, name: str) -> str:
    """Return the id of the one sweep in the experiment ``name``."""
    ((found,),) = asked(
        home,
        """SELECT run_uuid FROM runs JOIN experiments USING (experiment_id) JOIN tags USING (run_uuid)
        WHERE experiments.name = ? AND key = 'reglab.kind' AND value = 'sweep'""",
        name,
    )
    return str(found)


def alone(home: Path, name: str) -> str:
    """Return the id of the one run in the experiment ``name``."""
    (found,) = runs(home, name)
    return found


def status(home: Path, run: str) -> str:
    ((found,),) = asked(home, "SELECT status FROM runs WHERE run_uuid = ?", run)
    return str(found)


def texts_of(home: Path, table: str, run: str) -> dict[str, str]:
    """Return the params, or tags, of a run."""
    return dict(asked(home, f"SELECT key, value FROM {table} WHERE run_uuid = ?", run))


def series(home: Path, run: str) -> dict[str, list[int]]:
    """Return the steps of each metric's rows, as often as they are there."""
    found: dict[str, list[int]] = {}
    query = "SELECT key, step FROM metrics WHERE run_uuid = ? ORDER BY key, step"
    for key, step in asked(home, query, run):
        found.setdefault(key, []).append(step)
    return found


def kept(home: Path, run: str) -> dict[str, Any]:
    """Return all that is kept of a run: its rows in the store, and its files."""
    tables = ("runs", "params", "tags", "metrics", "latest_metrics")
    rows = {table: sorted(asked(home, f"SELECT * FROM {table} WHERE run_uuid = ?", run), key=repr) for table in tables}
    folders = (Path(texts_of(home, "tags", run)["reglab.folder"]), home / "mlartifacts" / run)
    files = {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}
    return {**rows, "files": files}


def weights(home: Path, run: str) -> dict[str, Tensor]:
    """Return the trained weights of a run's last checkpoint."""
    path = home / "mlartifacts" / run / "artifacts/checkpoints/last.ckpt"
    return trained(torch.load(path, weights_only=True)["state_dict"])


def trained(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the model's part of a checkpoint: averages have changed on purpose since."""
    found = {key: tensor for key, tensor in state.items() if key.startswith("model.")}
    assert found
    return found


def assert_near(found: Any, right: Any) -> None:
    """Assert that they are equal up to rounding: equal bits are promised on one machine only."""
    torch.testing.assert_close(found, right, rtol=1e-3, atol=1e-4)


def assert_whole(home: Path, run: str, epochs: int) -> None:
    """Assert that a run is finished and has every epoch's row once."""
    assert status(home, run) == "FINISHED"
    found = series(home, run)
    assert found["train/loss"] == found["val/loss"] == found["gap/loss_low"] == [*range(epochs + 1)]
    assert found["objective/task"] == found["optimizer/lr"] == [*range(1, epochs + 1)]
    assert all(len(set(steps)) == len(steps) for steps in found.values())


@pytest.mark.parametrize("name, jobs", [("fused", 4), ("local", 2)])
def test_a_finished_sweep_launched_again_trains_nothing(
    home: Path, capsys: pytest.CaptureFixture[str], name: str, jobs: int
) -> None:
    before = {run: kept(home, run) for run in runs(home, name)}
    parent = sweep(home, name)
    tags = texts_of(home, "tags", parent)
    assert main([*command(home, name), f"tracking.experiment={name}"]) == 0
    assert f"{jobs} of {jobs} jobs are finished, 0 to run" in capsys.readouterr().err
    assert len(before) == jobs
    assert {run: kept(home, run) for run in runs(home, name)} == before
    assert sweep(home, name) == parent
    assert status(home, parent) == "FINISHED"
    again = texts_of(home, "tags", parent)
    for key in ("reglab.chosen", "reglab.test_touched_by", "reglab.sweep_fingerprint"):
        assert again[key] == tags[key]
    advice = " The sweep has no run without"  # what follows tells in other words how to add one
    assert again["reglab.verdict"].partition(advice)[0] == tags["reglab.verdict"].partition(advice)[0]


def test_another_rule_can_be_asked_for(home: Path) -> None:
    parent = sweep(home, "local")
    assert texts_of(home, "tags", parent)["reglab.chosen"] == "l2 1"
    assert main([*command(home, "local"), "tracking.experiment=local", "sweep.rule=best"]) == 0
    tags = texts_of(home, "tags", parent)
    assert (tags["reglab.chosen"], tags["reglab.rule"]) == ("l2 0.001", "best")


@pytest.mark.parametrize("name, score", [("fused", "accuracy"), ("local", "R²")])
def test_a_sweep_is_reported_with_its_choice_and_test_result(
    home: Path, capsys: pytest.CaptureFixture[str], name: str, score: str
) -> None:
    parent = sweep(home, name)
    tags = texts_of(home, "tags", parent)
    before = {run: kept(home, run) for run in runs(home, name)}
    assert main(["report", parent]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert {run: kept(home, run) for run in runs(home, name)} == before
    assert "◀ choice" in said
    assert f"On the test set, touched once for {tags['reglab.chosen']} (" in said
    keys = {f"test {score}": "test/r2" if name == "local" else "test/accuracy", "test loss": "test/loss"}
    for word, key in keys.items():
        query = (
            f"SELECT avg(value) FROM metrics WHERE key = ? AND run_uuid IN ({marks(tags['reglab.test_touched_by'])})"
        )
        ((mean,),) = asked(home, query, key)
        assert f"{word} {mean:.3f}" in said
    assert (home / "report.html").stat().st_size > 10_000


def marks(ids: str) -> str:
    return ",".join(f"'{each}'" for each in ids.split())


def test_models_are_loaded(home: Path) -> None:
    wanted = tensors(home)["predictions"]
    assert len(wanted) == 3 * (4 + 2 + 2)
    assert wanted[f"{alone(home, 'stopped')} None"][1] == "best"
    for run_and_kind, (expected, kind) in wanted.items():
        run, which = run_and_kind.split()
        model = reglab.load(run, weights=None if which == "None" else which)
        size = next(iter(model.parameters())).shape[1]
        with torch.no_grad():
            found = model(torch.linspace(-1, 1, 5 * size).reshape(5, size))
        assert model.reglab_weights == kind
        assert_near(found, expected)


@pytest.mark.parametrize("name", ["scheduled", "averaged"])
def test_a_killed_run_is_resumed(home: Path, name: str) -> None:
    """The truth is the earlier version's run that nobody killed.

    It forgot the schedule in proximal steps where it resumed, which today's does not.
    """
    run = alone(home, name)
    assert status(home, run) == "RUNNING"
    assert main(["resume", run]) == 0
    assert texts_of(home, "tags", run)["reglab.resumed"] == "1"
    assert_whole(home, run, EPOCHS)
    assert_near(weights(home, run), trained(tensors(home)["undisturbed"][f"{name} "]))


def test_a_killed_sweep_is_resumed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = runs(home, "killed")
    assert sorted(jobs.values()) == ["0", "1", "2", "3"]
    assert main(["resume", sweep(home, "killed")]) == 0
    assert "resuming from checkpoints: 4 jobs in 1 pack" in capsys.readouterr().err
    assert runs(home, "killed") == jobs
    assert status(home, sweep(home, "killed")) == "FINISHED"
    for run, job in jobs.items():
        assert_whole(home, run, EPOCHS)
        assert_near(weights(home, run), trained(tensors(home)["undisturbed"][f"killed {job}"]))


def test_a_finished_run_is_told_as_that_and_trained_longer(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = alone(home, "single")
    before = kept(home, run)
    assert main(["resume", run]) == 0
    assert "is finished" in capsys.readouterr().out
    assert kept(home, run) == before
    assert main(["resume", run, "trainer.max_epochs=5"]) == 0
    assert_whole(home, run, 5)
    assert texts_of(home, "tags", run)["reglab.extended"] == "from 3 to 5 epochs"


def test_a_diverged_run_is_not_repeated(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = alone(home, "diverged")
    assert status(home, run) == "FAILED"
    before = kept(home, run)
    assert main(["resume", run]) == 2
    assert "diverged, and resuming it would only repeat that" in capsys.readouterr().err
    assert kept(home, run) == before


def test_what_was_not_sent_is_sent(home: Path) -> None:
    assert main(["sync"]) == 0
    assert_whole(home, alone(home, "offline"), 2)
    assert {status(home, run) for name in ("scheduled", "averaged", "killed") for run in runs(home, name)} == {"KILLED"}


def test_fingerprints_are_unchanged(home: Path) -> None:
    wanted = texts(home)["fingerprints"]
    found = {}
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        for words in wanted:
            config = OmegaConf.to_container(compose("train", words.split()), resolve=True)
            assert isinstance(config, dict)
            found[words] = fingerprint({str(key): value for key, value in config.items()}, "digest")
    assert {words for words in wanted if found[words] != wanted[words]} == NEW_PRINTS


def test_a_sweep_today_has_the_names_of_then(home: Path) -> None:
    assert main([*command(home, "fused"), "sweep.again=true", "tracking.experiment=today"]) == 0
    then, now = ({job: run for run, job in runs(home, name).items()} for name in ("fused", "today"))
    assert then.keys() == now.keys()
    for job in then:
        assert_same_names(home, then[job], now[job])
        prints = [texts_of(home, "tags", run)["reglab.fingerprint"] for run in (then[job], now[job])]
        assert prints[0] == prints[1]
    parents = sweep(home, "fused"), sweep(home, "today")
    tags = [texts_of(home, "tags", run) for run in parents]
    assert tags[1].keys() - tags[0].keys() - {"reglab.test_looked_before"} == NEW_SWEEP_TAGS
    assert tags[0].keys() <= tags[1].keys()
    assert tags[0]["reglab.sweep_fingerprint"] == tags[1]["reglab.sweep_fingerprint"]


@pytest.mark.parametrize("name, code", [("single", 0), ("stopped", 0), ("diverged", 1)])
def test_a_run_today_has_the_names_of_then(home: Path, name: str, code: int) -> None:
    assert main([*command(home, name), "tracking.experiment=today"]) == code
    then, now = alone(home, name), alone(home, "today")
    assert_same_names(home, then, now)
    for key in ("reglab.weights", "reglab.failure"):
        assert texts_of(home, "tags", then).get(key) == texts_of(home, "tags", now).get(key)


def test_a_regression_today_has_the_names_of_then(home: Path) -> None:
    of_sweeps = ("-m", "sweep.", "hydra.launcher.", "hydra/launcher=")
    words = [word for word in command(home, "local") if not word.startswith(of_sweeps)]
    words[words.index("regularizer.l2.strength=1e-3,1")] = "regularizer.l2.strength=1e-3"
    assert main([*words, "tracking.experiment=today"]) == 0
    (then,) = (run for run, job in runs(home, "local").items() if job == "0")
    then_names, now_names = (set(series(home, run)) for run in (then, alone(home, "today")))
    assert {key for key in then_names if not key.startswith("test/")} <= now_names
    assert all(is_new(key) for key in now_names - then_names)


def assert_same_names(home: Path, then: str, now: str) -> None:
    """Assert that a run of today has the metrics, tags and params of then, but for the list above."""
    series_then, series_now = series(home, then), series(home, now)
    assert all(series_now[key] == steps for key, steps in series_then.items())
    assert all(is_new(key) for key in series_now.keys() - series_then.keys())
    tags_then, tags_now = (texts_of(home, "tags", run).keys() for run in (then, now))
    assert tags_now - tags_then == NEW_TAGS
    assert tags_then <= tags_now
    params_then, params_now = (texts_of(home, "params", run).keys() for run in (then, now))
    assert params_now - params_then <= NEW_PARAMS
    assert params_then - params_now == GONE_PARAMS


def is_new(key: str) -> bool:
    part, _, name = key.rpartition("/")
    score = next((name.removesuffix(end) for end in NEW_OF_TEST if name.endswith(end)), name)
    strength = part.startswith("regularizer/")  # which sorts as a number
    return strength or score in NEW_SCORES or (part == "test" and name != score)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(13, 6), nn.ReLU(), nn.Linear(6, 3))


def rows() -> Tensor:
    return torch.linspace(-2, 2, 40 * 13).reshape(40, 13).sin()


def test_a_run_of_the_python_api_is_loaded(home: Path) -> None:
    model = reglab.load(texts(home)["fit"], model=net())
    with torch.no_grad():
        assert_near(model(rows()), tensors(home)["fit"])


class Module(pl.LightningModule):
    """The module that the callback's checkpoint is of."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net()

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.net(inputs)
        return found

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 0.01)


@pytest.mark.filterwarnings(r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:The number of training batches")
def test_a_checkpoint_of_the_callback_is_resumed(home: Path) -> None:
    members = [reglab.L2(1e-2), reglab.WeightDecay(0.1), reglab.EMA(0.9)]
    regularize = reglab.Regularize(members, "classification")
    trainer = pl.Trainer(
        max_epochs=4,
        accelerator="cpu",
        callbacks=[regularize],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = DataLoader(TensorDataset(rows(), torch.arange(40) % 3), 8)
    module = Module()
    trainer.fit(module, loader, loader, ckpt_path=str(home / "callback.ckpt"))
    assert [entry["epoch"] for entry in regularize.history] == [0, 1, 2, 3, 4]
    found, right = module.state_dict(), tensors(home)["callback"]
    assert found.keys() >= right.keys() - {key for key in right if "ema" in key}
    for key, weight in right.items():
        if key.startswith("net."):
            assert_near(found[key], weight)
