"""The smallest step of an epoch, which decides whether each device's BatchNorm can train
by itself.
"""

from types import SimpleNamespace
from typing import Any

import laws_harness as harness
import pytest
import torch
from torch import nn

from reglab.core.errors import UserError
from reglab.training.execution_settings import Engine
from reglab.training.loader import Steps
from reglab.training.microbatches import Microbatches
from reglab.training.recipe import Recipe
from reglab.training.solo import Solo

SMALL = "trainer.sync_batchnorm=false: a step of an epoch has 4 rows, and BatchNorm needs 2 on each of 3 devices; use"


@pytest.mark.parametrize(
    "rows, batch_size, least",
    [(20, 5, 5), (22, 5, 2), (23, 5, 3), (21, 5, 5), (4, 10, 4), (1, 5, 1), (2, 1, 2), (3, 2, 3), (11, 10, 11)],
)
def test_the_smallest_step_of_an_epoch(rows: int, batch_size: int, least: int) -> None:
    steps = Steps(rows, batch_size, 0, Recipe({}, steps_per_batch=3), lambda: 0)
    assert min(steps.sizes) == least
    assert min(len(step) for chunk in steps for step in chunk) == least


def solo(ranks: int, engine: Engine, norm: bool = True) -> Solo:
    """Return a module of 44 rows in steps of 10 that believes in so many ranks."""
    job = harness.experiment({}, model=harness.small_model(norm=norm))
    module = Solo(job.model, job.cocktail, job.data.train, job.data.task, job.recipe, engine)
    trainer: Any = SimpleNamespace(world_size=ranks)
    module._kept, module.trainer = trainer, trainer  # Lightning refers to it weakly
    return module


def test_a_step_too_small_for_batchnorm_on_each_device_is_refused() -> None:
    with pytest.raises(UserError, match=f"{SMALL} trainer.sync_batchnorm=true, or another data.batch_size"):
        solo(3, Engine(sync_batchnorm=False)).change_layers()


@pytest.mark.parametrize(
    "ranks, engine, norm",
    [
        (2, Engine(sync_batchnorm=False), True),  # 2 rows on each
        (3, Engine(accumulate=2, sync_batchnorm=False), False),
        (3, Engine(sync_batchnorm=True), True),
    ],
    ids=["enough rows", "no BatchNorm", "joint statistics"],
)
def test_it_is_refused_only_where_it_would_fail(ranks: int, engine: Engine, norm: bool) -> None:
    module = solo(ranks, engine, norm)
    forwards = [part.forward for part in module.model.modules() if isinstance(part, nn.BatchNorm1d)]
    module.change_layers()
    changed = [part.forward for part in module.model.modules() if isinstance(part, nn.BatchNorm1d)]
    assert (changed != forwards) == engine.sync_batchnorm
    module.release()
    assert forwards == [part.forward for part in module.model.modules() if isinstance(part, nn.BatchNorm1d)]


@pytest.mark.parametrize("rows", [6, 8, 10, 20, 24, 26])
@pytest.mark.parametrize("ranks", [2, 3])
def test_in_every_microbatch_batchnorm_of_each_device_has_two_rows(ranks: int, rows: int) -> None:
    sizes = []
    for rank in range(ranks):
        cut = Microbatches(
            harness.experiment({}).data.train,
            torch.device("cpu"),
            torch.float32,
            rank=rank,
            ranks=ranks,
            batch_size=2 * ranks,
            accumulate=9,
            least=2 * ranks,
        )
        sizes += [len(microbatch.batch.inputs) for microbatch in cut.of(torch.arange(rows))]
    assert min(sizes) >= 2
