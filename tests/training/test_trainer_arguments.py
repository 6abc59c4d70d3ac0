"""Every argument of Lightning's Trainer acts or is refused, and the docs say which."""

import inspect
import os
import re
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from reglab.config.trainer_table import ACTS, OWN, REFUSED
from reglab.core.errors import UserError
from reglab.training.trainer_arguments import check_of_fit, supported
from training.job_case import Case

PAGE = Path(__file__).parents[2] / "docs" / "trainer.md"
# A value of each refused argument that someone would give.
GIVEN: dict[str, Any] = {
    "logger": True,
    "callbacks": [],
    "fast_dev_run": True,
    "min_steps": 10,
    "max_time": "00:01:00:00",
    "limit_val_batches": 1,  # of batches: 1.0 is the whole part
    "limit_test_batches": 0.5,
    "limit_predict_batches": 1.0,
    "overfit_batches": 1,
    "val_check_interval": 0.5,
    "check_val_every_n_epoch": 2,
    "num_sanity_val_steps": 2,
    "log_every_n_steps": 1,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": True,
    "gradient_clip_val": 1.0,
    "gradient_clip_algorithm": "value",
    "inference_mode": False,
    "use_distributed_sampler": True,
    "barebones": True,
    "plugins": "x",
    "reload_dataloaders_every_n_epochs": 1,
    "default_root_dir": "x",
    "enable_autolog_hparams": False,
    "model_registry": "x",
}


def test_the_table_has_every_argument_once() -> None:
    assert {*ACTS, *REFUSED} == set(inspect.signature(pl.Trainer).parameters)
    assert not set(ACTS) & set(REFUSED)
    assert not set(OWN) & {*ACTS, *REFUSED}


def test_the_page_shows_the_table() -> None:
    rows = [f"| `{key}` | {text} |" for key, text in ACTS.items()]
    rows += [f"| `{key}` | refused: {text} |" for key, text in REFUSED.items()]
    text = PAGE.read_text(encoding="utf-8")
    assert [row for row in rows if row not in text] == []


@pytest.mark.parametrize("key", REFUSED)
def test_what_does_not_act_is_refused_with_the_way_out(key: str) -> None:
    with pytest.raises(UserError) as raised:
        supported({key: GIVEN[key]})
    assert str(raised.value) == f"trainer.{key} has no effect here: {REFUSED[key]}"
    assert supported({key: None}) == {}


@pytest.mark.parametrize("key", REFUSED)
def test_python_is_answered_in_python(key: str) -> None:
    with pytest.raises(UserError) as raised:
        check_of_fit({key: GIVEN[key]})
    told = str(raised.value)
    assert told.startswith(f"trainer={{{key!r}: ...}} has no effect here: ")
    assert not re.search(r"\b(trainer|data|debug|measure|hydra)\.\w|=none|2>|config.yaml|reglab train", told)
    assert check_of_fit({key: None, "devices": 1})["devices"] == 1


def test_python_is_told_of_a_typo() -> None:
    with pytest.raises(UserError, match=r"trainer=\{'precison': ...\} is no argument of a trainer: did you mean"):
        check_of_fit({"precison": 32})


def test_what_is_done_anyhow_may_be_said() -> None:
    assert supported({"inference_mode": True, "limit_val_batches": 1.0, "num_sanity_val_steps": 0, "devices": 1}) == {
        "devices": 1
    }


def test_a_typo_is_told() -> None:
    with pytest.raises(UserError, match=r"trainer\.precison is no setting of the trainer: did you mean 'precision'"):
        supported({"precison": 32})


@pytest.mark.parametrize("workspace", [None, ":16:8"])
def test_what_a_trainer_sets_for_the_process_ends_with_the_job(
    case: Case, monkeypatch: pytest.MonkeyPatch, workspace: str | None
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", workspace or "")
    if workspace is None:
        monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    seen = []
    forward = torch.nn.Linear.forward

    def observed(self: torch.nn.Linear, inputs: torch.Tensor) -> torch.Tensor:
        seen.append((torch.are_deterministic_algorithms_enabled(), torch.is_anomaly_enabled()))
        return forward(self, inputs)

    monkeypatch.setattr(torch.nn.Linear, "forward", observed)
    case.train("+trainer.deterministic=true", "+trainer.detect_anomaly=true", "trainer.max_epochs=1")
    assert (True, True) in seen
    case.train("+trainer.benchmark=true", "trainer.max_epochs=1")
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.is_anomaly_enabled()
    assert not torch.backends.cudnn.benchmark
    assert os.environ.get("CUBLAS_WORKSPACE_CONFIG") == workspace


def test_a_variable_that_no_run_would_record_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_TRAINER_LIMIT_TRAIN_BATCHES", "2")
    with pytest.raises(
        UserError, match=r"PL_TRAINER_LIMIT_TRAIN_BATCHES=2 is set, .*Instead: trainer\.limit_train_batches=2"
    ):
        supported({})


@pytest.mark.parametrize("profiler", ["simple", "advanced"])
def test_a_profile_is_an_artifact_of_the_run(case: Case, profiler: str) -> None:
    result = case.train(f"+trainer.profiler={profiler}")
    assert result.status == "FINISHED"
    (profile,) = case.artifacts(result.run_id).glob("*profile*")
    assert "training_step" in profile.read_text()
