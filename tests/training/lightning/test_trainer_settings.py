"""What the trainer's arguments do where Lightning's own loop trains."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl

from reglab.config.trainer_table import ACTS_IN_LIGHTNING, OWN, REFUSED, REFUSED_IN_LIGHTNING
from reglab.core.errors import UserError
from reglab.training.lightning.trainer_settings import lightning_arguments
from training.job_case import Case
from training.lightning.module_case import Run, rows

PAGE = Path(__file__).parents[3] / "docs" / "trainer.md"
SIMPLE = ("data=wine", "model=lightning", "model._target_=training.lightning.own_project.Simple", "tracking=none",
          "trainer.max_epochs=2")  # fmt: skip


def test_the_tables_name_arguments_once() -> None:
    assert set(ACTS_IN_LIGHTNING) <= set(REFUSED) & set(inspect.signature(pl.Trainer).parameters)
    assert set(REFUSED_IN_LIGHTNING) == set(OWN) - {"gradient_clip_norm", "checkpoint_seconds"}
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert all(
        f"`{key}`" in text.partition("these act as well")[2] for key in (*ACTS_IN_LIGHTNING, *REFUSED_IN_LIGHTNING)
    )


@pytest.mark.parametrize("key", ACTS_IN_LIGHTNING)
def test_what_acts_in_lightning_reaches_its_trainer(key: str) -> None:
    assert lightning_arguments({"max_epochs": 3, key: 1})[key] == 1


@pytest.mark.parametrize("key", [key for key in REFUSED if key not in ACTS_IN_LIGHTNING])
def test_the_rest_is_refused_with_the_way_out(key: str) -> None:
    with pytest.raises(UserError, match=f"trainer.{key} has no effect here"):
        lightning_arguments({"max_epochs": 3, key: "x"})


@pytest.mark.parametrize("key", REFUSED_IN_LIGHTNING)
def test_settings_of_our_own_loop_are_refused(key: str) -> None:
    with pytest.raises(UserError, match=f"trainer.{key}=7 has no effect with model=lightning"):
        lightning_arguments({"max_epochs": 3, key: 7})
    assert key not in lightning_arguments({"max_epochs": 3, key: REFUSED_IN_LIGHTNING[key][0][0]})


def test_clipping_has_two_names() -> None:
    assert lightning_arguments({"max_epochs": 3, "gradient_clip_norm": 0.5})["gradient_clip_val"] == 0.5


@pytest.mark.parametrize(
    "given, steps",
    [({"max_steps": 3}, 3), ({"limit_train_batches": 1}, 2), ({"overfit_batches": 1}, 2),
     ({"accumulate_grad_batches": 2}, 4), ({}, 8)],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:You requested to overfit:UserWarning")
def test_steps_are_lightnings(run: Run, case: Case, given: dict[str, Any], steps: int) -> None:
    from reglab.training import checkpoint_files

    words = [f"{'' if key == 'accumulate_grad_batches' else '+'}trainer.{key}={value}" for key, value in given.items()]
    run(*SIMPLE, *words)
    assert checkpoint_files.read(case.folder / "it" / "checkpoints" / "last.ckpt")["global_step"] == steps
    assert ("val/loss", 1) in rows(case.folder / "it")


def test_a_profile_is_written_into_the_run(run: Run, case: Case) -> None:
    run(*SIMPLE, "+trainer.profiler=simple")
    assert "run_training_epoch" in (case.folder / "it" / "fit-profile.txt").read_text()
