"""Fits on two processes from a notebook.

They end as one in this process does, whatever happens in one of them.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import forked
from reglab import UserError
from reglab.api import spawn
from reglab.data.arrays import dataset
from reglab.measures import MeasureSettings
from reglab.processes.child_processes import Child
from reglab.regularizers import Cocktail
from reglab.training.experiment import Experiment
from reglab.training.recipe import Recipe, optimizer_config
from training.job_case import Case

TRAINS = """
def compared(fit):
    state = {name: tensor.double().flatten().tolist() for name, tensor in fit.model.state_dict().items()}
    history = {key: sorted(values) for key, values in fit.history.items()}
    return {"metrics": dict(fit.metrics), "state": state, "history": history}

model = Net()
weight = model.first.weight
forked = fit("ddp_notebook", model, tracking="sqlite:///reglab.db")
told["alone"], told["forked"] = compared(fit(None)), compared(forked)
told["kept"] = forked.model is model and model.first.weight is weight and model.training
told["run"] = forked.run_id
told["by itself"] = compared(fit("auto"))
"""
ENDS = """
from reglab.processes import child_processes
patience, child_processes._EXIT_SECONDS = child_processes._EXIT_SECONDS, 0.5  # rank 0 waits for rank 1 for ever
told["fails"], told["dies"] = ended("ddp_fork", fails), ended("ddp_fork", dies)
child_processes._EXIT_SECONDS = patience
told["cell"] = ended("ddp_spawn", None)
told["interrupted"] = ended("ddp_fork", interrupts, epochs=10**6, tracking="sqlite:///reglab.db")
"""
SPAWNED = """
torch.manual_seed(0)
plain = nn.Sequential(nn.Linear(13, 6), nn.ReLU(), nn.Linear(6, 3))
told["spawned"] = dict(fit("ddp_spawn", plain).metrics)
"""


def kernel(cell: str, folder: Path) -> dict[str, Any]:
    """Run ``cell`` in a process of its own and return what it told; no process of it is left."""
    ended = forked.run([Path(__file__).with_name("kernel.py"), cell], cwd=folder, interpreters=2)
    assert ended.returncode == 0, ended.stderr[-3000:]
    told: dict[str, Any] = json.loads((folder / "told.json").read_text())
    assert told["left"] == []
    return told


def test_forked_processes_train_as_one_does_and_hand_back_the_same(case: Case) -> None:
    told = kernel(TRAINS, case.folder)
    alone, forked = told["alone"], told["forked"]
    assert told["kept"]
    assert forked["history"] == alone["history"]
    for key in ("train/loss", "val/loss", "gap/loss", "weights/l2", "weights/zeros"):
        assert forked["metrics"][key] == pytest.approx(alone["metrics"][key], abs=1e-5)
    for name, values in alone["state"].items():
        assert forked["state"][name] == pytest.approx(values, abs=1e-5)
    assert told["by itself"]["state"] == forked["state"]
    (run,) = case.runs()
    assert (run.info.run_id, run.info.status) == (told["run"], "FINISHED")
    assert run.data.metrics["final/val/loss"] == forked["metrics"]["val/loss"]


def test_what_happens_in_one_process_is_raised_in_the_notebook(case: Case) -> None:
    told = kernel(ENDS, case.folder)
    assert told["fails"] == ["Own", "3 because of rank 1", "rank 1"]
    assert told["dies"][:2] == ["CodeFailed", "the code of the run called os._exit(7)"]
    assert told["cell"][0] == "UserError"
    assert "use strategy='ddp_notebook'" in told["cell"][1]
    assert told["interrupted"][0] == "KeyboardInterrupt"
    (run,) = case.runs()
    assert run.info.status == "KILLED"
    assert list(case.folder.glob("runs/*/*/checkpoints/last.ckpt"))


def test_spawned_processes_train_what_can_be_imported(tmp_path: Path) -> None:
    assert kernel(SPAWNED, tmp_path)["spawned"]["epoch"] == 3


def job(**trainer: Any) -> Experiment:
    recipe = Recipe(optimizer_config("adam", 1e-3))
    cocktail = Cocktail({}, 0, "classification")
    return Experiment(torch.nn.Linear(13, 3), cocktail, dataset("wine"), recipe, MeasureSettings(), trainer)


@pytest.mark.parametrize(
    "trainer, environment, message",
    [
        ({"strategy": "ddp_spawn", "num_nodes": 2}, {}, "on this machine alone"),
        ({"strategy": "ddp_fork"}, {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2"}, "torchrun already did: use 'ddp'"),
    ],
)
def test_what_cannot_start_is_told(
    trainer: dict[str, Any], environment: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=message):
        spawn.plan_processes(job(accelerator="cpu", devices=2, **trainer))


def test_a_process_whose_gpu_is_in_use_is_not_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(UserError, match=r"restart the kernel .* or use strategy='ddp_spawn'"):
        spawn.plan_processes(job(accelerator="cpu", devices=2, strategy="ddp_notebook"))
    start, _ = spawn.plan_processes(job(accelerator="cpu", devices=2, strategy="ddp_spawn"))
    assert start == spawn.ProcessPlan("spawn", 2)


@pytest.mark.parametrize("strategy", ["ddp", "auto", "ddp_fork"])
def test_one_device_or_an_ordinary_strategy_starts_nothing(strategy: str) -> None:
    given = job(accelerator="cpu", devices=1, strategy=strategy)
    start, settled = spawn.plan_processes(given)
    assert start is None
    assert settled.trainer["strategy"] in ("ddp", "auto")


@pytest.mark.parametrize(
    "error, code, cause",
    [
        (None, 0, False),
        (None, -9, True),
        (ZeroDivisionError("division"), 1, True),
        (RuntimeError("[gloo/transport] Connection closed by peer"), 1, False),
        (RuntimeError("a bug of the user's own"), 1, True),
    ],
)
def test_a_lost_partner_is_no_cause(error: Exception | None, code: int, cause: bool) -> None:
    assert Child(0, None, None, error, code).is_cause is cause  # type: ignore[arg-type]  # neither is asked


def test_a_script_that_trains_wherever_it_is_imported_is_told_of_the_guard(tmp_path: Path) -> None:
    """Its processes end before they have read what they are given."""
    script = tmp_path / "script.py"
    script.write_text(
        "import reglab\nfrom torch import nn\n"
        "data = reglab.dataset('digits', train_size=100)\n"
        "model = nn.Sequential(nn.Linear(64, 400), nn.Linear(400, 10))\n"
        "reglab.fit(model, data, epochs=1, trainer={'accelerator': 'cpu', 'devices': 2, 'strategy': 'ddp_spawn'})\n"
    )
    ended = forked.run([script], cwd=tmp_path, interpreters=2)
    assert ended.returncode == 1
    assert "put reglab.fit under if __name__ == '__main__'" in ended.stderr.splitlines()[-1]
