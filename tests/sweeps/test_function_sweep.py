"""``reglab.sweep``: a Python function of the user's, swept with ledger, choice and report."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import chdir
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from mlflow import MlflowClient
from torch.optim import Adam
from torch.utils.data import DataLoader

import reglab
from callback.own_module import LIGHTNING_WARNS, OwnModule, dataset, trainer
from callback.test_own_loss import cross_entropies
from reglab.cli.command import main

pytestmark = LIGHTNING_WARNS
STRENGTHS = [1e-3, 3e-2, 1.0]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, template: Path) -> Iterator[Path]:
    shutil.copy(template, tmp_path / "reglab.db")
    with chdir(tmp_path):
        yield tmp_path


def build_and_fit(l1: float, seed: int) -> reglab.Regularize:
    callback = reglab.Regularize([reglab.L1(l1)], loss=cross_entropies, seed=seed)
    rows = DataLoader(dataset(48, 2), 8, shuffle=True), DataLoader(dataset(40, 3), 40)
    trainer([callback], epochs=2).fit(OwnModule(lambda weights: Adam(weights, 1e-2)), *rows)
    return callback


class Fake:
    """Metrics by a formula, the calls noted; some of them raise, once."""

    def __init__(self, raises: Sequence[tuple[float, int]] = (), error: BaseException | None = None) -> None:
        self.calls: list[tuple[float, int]] = []
        self.raises, self.error = list(raises), error or ValueError("no luck")

    def __call__(self, lr: float, seed: int) -> dict[str, float]:
        self.calls.append((lr, seed))
        if (lr, seed) in self.raises:
            self.raises.remove((lr, seed))
            raise self.error
        loss = (lr - 0.3) ** 2 + 0.01 * seed
        return {"val/loss": loss, "train/loss": loss / 2, "gap/loss": loss / 2}


def children(run_id: str) -> list[Any]:
    client = MlflowClient(f"sqlite:///{Path.cwd()}/reglab.db")
    where = f"tags.`mlflow.parentRunId` = '{run_id}'"
    return list(client.search_runs([client.get_run(run_id).info.experiment_id], where))


def test_a_function_is_swept_chosen_and_reported(capsys: pytest.CaptureFixture[str]) -> None:
    """The choice is that of the means by hand; each call is what it is alone, its seeds set."""
    found = reglab.sweep(build_and_fit, {"l1": STRENGTHS}, seeds=2)
    said = capsys.readouterr()
    assert "6 of 6: l1=1 seed=1: val/loss" in said.err
    assert "build_and_fit" in said.out
    runs = children(found.run_id)
    assert len(runs) == 6
    means = {
        l1: fmean(run.data.metrics["final/val/loss"] for run in runs if float(run.data.params["l1"]) == l1)
        for l1 in STRENGTHS
    }
    assert found.best == {"l1": min(means, key=lambda l1: means[l1])}
    assert found.report.is_file()
    assert str(found) == found.verdict != ""

    last = next(run for run in runs if run.data.params == {"l1": "0.03", "seed": "1"})
    torch.manual_seed(1)
    alone = build_and_fit(3e-2, 1)
    assert last.data.metrics["final/val/loss"] == alone.metrics["val/loss"]
    assert last.data.metrics["final/gap/loss_high"] == alone.metrics["gap/loss_high"]
    assert last.data.tags["reglab.regularizer"] == "l1"
    client = MlflowClient(f"sqlite:///{Path.cwd()}/reglab.db")
    assert [point.step for point in client.get_metric_history(last.info.run_id, "val/loss")] == [0, 1, 2]
    assert "examples.npz" in [each.path for each in client.list_artifacts(last.info.run_id)]
    assert main(["report", found.run_id]) == 0


def test_what_is_left_is_run_and_nothing_twice(capsys: pytest.CaptureFixture[str]) -> None:
    function = Fake(raises=[(0.2, 1)])
    values = {"lr": [0.1, 0.2, 0.9]}
    first = reglab.sweep(function, values, seeds=2)
    assert len(function.calls) == 6
    assert "4 of 6: lr=0.2 seed=1: failed: ValueError: no luck" in capsys.readouterr().err
    assert {run.info.status for run in children(first.run_id)} == {"FINISHED", "FAILED"}
    again = reglab.sweep(function, values, seeds=2)
    assert function.calls[6:] == [(0.2, 1)]
    assert again.run_id == first.run_id
    assert again.best == {"lr": 0.2}
    assert "5 of 6 calls are finished" in capsys.readouterr().err
    assert reglab.sweep(function, values, seeds=2).best == again.best
    assert len(function.calls) == 7
    other = reglab.sweep(function, values, seeds=[3])
    assert other.run_id != first.run_id
    assert function.calls[7:] == [(0.1, 3), (0.2, 3), (0.9, 3)]
    assert reglab.sweep(function, values, seeds=[3], again=True).run_id != other.run_id


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_ctrl_c_ends_the_sweep_which_then_continues(error: BaseException) -> None:
    """Lightning ends a fit by SystemExit after Ctrl-C."""
    if isinstance(error, SystemExit):
        error.__context__ = KeyboardInterrupt()
    function = Fake(raises=[(0.2, 0)], error=error)
    with pytest.raises(KeyboardInterrupt):
        reglab.sweep(function, {"lr": [0.1, 0.2, 0.9]})
    assert len(function.calls) == 2
    found = reglab.sweep(function, {"lr": [0.1, 0.2, 0.9]})
    assert function.calls[2:] == [(0.2, 0), (0.9, 0)]
    assert found.best == {"lr": 0.2}
    assert sorted(run.info.status for run in children(found.run_id)) == ["FINISHED", "FINISHED", "FINISHED", "KILLED"]


def test_several_values_are_combined() -> None:
    def function(lr: float, norm: bool, kind: str, seed: int) -> dict[str, float]:
        return {"val/loss": lr + (0 if norm else 1) + len(kind), "train/loss": 0.1}

    found = reglab.sweep(function, {"lr": reglab.linear(1, 3, 3), "norm": [False, True], "kind": ["ab", "a"]})
    assert found.best == {"lr": 1, "norm": True, "kind": "a"}
    assert len(children(found.run_id)) == 12


@pytest.mark.parametrize(
    "values, options, words",
    [
        ({"lr": 0.1}, {}, "values of lr must be a list, such as reglab.log"),
        ({"lr": "ab"}, {}, "must be a list"),
        ({"lr": [Adam]}, {}, "must be numbers, texts or flags"),
        ({"rate": [0.1]}, {}, "is called with rate, seed by name"),
        ({"lr": [0.1]}, {"seeds": 0}, "seeds must be a number of seeds"),
    ],
)
def test_what_cannot_be_swept_is_said_before_any_call(values: Any, options: Any, words: str) -> None:
    function = Fake()
    with pytest.raises(reglab.UserError, match=words):
        reglab.sweep(function, values, **options)
    assert not function.calls


def test_a_function_that_returns_no_result_is_told_what_to_return(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(reglab.UserError):
        reglab.sweep(lambda lr, seed: lr, {"lr": [0.1]})
    assert "must return the Regularize that measured its training" in capsys.readouterr().err
