"""Where the weights lie that a run stands for when they are measured at its end, and what it then says of them."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import laws_harness as harness
import pytest
import torch

from reglab.distributed.parameters import LocalParameters
from reglab.regularizers import EarlyStopping, Regularizer
from reglab.training.best_epoch import BestEpochs
from reglab.training.finalize import Finalizer
from reglab.training.fit import summary
from reglab.training.solo import Solo

LATEST = {"val/loss": 0.5, "objective/task": 0.4, "weights/all/l2": 7.0, "weights/all/update": 1.0}
BEST = {"val/loss": 0.25, "objective/task": 0.3, "weights/all/l2": 2.0, "weights/all/update": 9.0}


class Asked:
    """A measurement that notes on which devices the model lies."""

    def __init__(self) -> None:
        self.devices: set[str] = set()
        self.evaluations = "what was measured last"

    def gap(self, local_parameters: LocalParameters, cocktail: Any, *_: Any) -> dict[str, torch.Tensor]:
        tensors = [*local_parameters.model.parameters(), *local_parameters.model.buffers(), *cocktail.buffers()]
        self.devices |= {tensor.device.type for tensor in tensors}
        return {"val/loss": torch.tensor(0.25)}

    def weights(self, local_parameters: LocalParameters, cocktail: Any, *_: Any) -> dict[str, torch.Tensor]:
        return {"weights/all/l2": torch.tensor(2.0), "weights/all/update": torch.tensor(9.0)}

    def at_end(self, local_parameters: LocalParameters, cocktail: Any) -> dict[str, torch.Tensor]:
        return {}


def finalized(stops: bool, record: BestEpochs) -> tuple[dict[str, float], set[str]]:
    """Return the final metrics of a run of seven epochs, and the devices of what was measured at its end."""
    members: dict[str, Regularizer] = {"stop": EarlyStopping()} if stops else {}
    job = harness.experiment(members)
    module: Any = Solo(job.model, job.cocktail, job.data.train, job.data.task, job.recipe)
    module.measurement = asked = Asked()
    recorder: Any = SimpleNamespace(latest={0: LATEST})
    checkpoints: Any = SimpleNamespace(best_weights=module.snapshot(), best_epoch=3, record=record)
    trainer: Any = SimpleNamespace(
        current_epoch=7,
        is_global_zero=False,
        precision_plugin=SimpleNamespace(val_step_context=lambda: nullcontext()),
        strategy=SimpleNamespace(root_device=torch.device("meta")),  # where it trained
    )
    module.trainer = trainer
    finalizer = Finalizer(module, recorder, checkpoints)
    finalizer.on_fit_end(trainer, module)
    return finalizer.final, asked.devices


@pytest.mark.parametrize("stops", [True, False])
def test_the_best_weights_are_measured_on_the_device_that_trained(stops: bool) -> None:
    record = BestEpochs("val/loss")
    record.offer([0], [BEST], 3, 30)
    final, devices = finalized(stops, record)
    assert devices == ({"meta"} if stops else set())
    best = {"val/loss": 0.25, "objective/task": 0.4, "weights/all/l2": 2.0, "epoch": 3.0}
    assert final == (best if stops else {**LATEST, "epoch": 7.0})


def test_a_run_resumed_from_a_checkpoint_without_the_best_metrics_measures_them() -> None:
    record = BestEpochs("val/loss")
    record.load_state_of(0, {"best_value": 0.25, "best_epoch": 3})
    final, _ = finalized(True, record)
    assert final == {"val/loss": 0.25, "objective/task": 0.4, "weights/all/l2": 2.0, "epoch": 3.0}


def test_what_stands_for_a_run_has_no_numbers_by_layer() -> None:
    final = {
        "gap/loss": 1.0,
        "weights/all/l2": 2.0,
        "weights/head.weight/l2": 3.0,
        "gradient/all/norm": 4.0,
        "gradient/head.weight/norm": 5.0,
        "curvature/hessian_trace": 6.0,
        "curvature/head.weight/hessian_trace": 7.0,
        "val/price/r2": 8.0,
    }
    assert summary(final) == {
        "gap/loss": 1.0,
        "weights/l2": 2.0,
        "gradient/all/norm": 4.0,
        "curvature/hessian_trace": 6.0,
        "val/price/r2": 8.0,
    }
