"""Where the weights lie that a run stands for when they are measured at its end."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import laws_harness as harness
import pytest
import torch

from reglab.distributed.parameters import LocalParameters
from reglab.regularizers import EarlyStopping, Regularizer
from reglab.training.finalize import Finalizer
from reglab.training.solo import Solo


class Asked:
    """A measurement whose rows lie on a device that is not the CPU."""

    def __init__(self) -> None:
        self.probe = torch.zeros(2, harness.FEATURES, device="meta"), torch.zeros(2, device="meta")
        self.devices: set[str] = set()
        self.evaluations = "what was measured last"

    def gap(self, local_parameters: LocalParameters, cocktail: Any) -> dict[str, torch.Tensor]:
        tensors = [*local_parameters.model.parameters(), *local_parameters.model.buffers(), *cocktail.buffers()]
        self.devices |= {tensor.device.type for tensor in tensors}
        return {"val/loss": torch.tensor(0.25)}

    def weights(self, local_parameters: LocalParameters, cocktail: Any) -> dict[str, torch.Tensor]:
        return {"weights/all/l2": torch.tensor(2.0), "weights/all/update": torch.tensor(9.0)}


@pytest.mark.parametrize("stops", [True, False])
def test_the_best_weights_are_measured_on_the_device_of_the_measurement(stops: bool) -> None:
    members: dict[str, Regularizer] = {"stop": EarlyStopping()} if stops else {}
    job = harness.experiment(members)
    module = Solo(job.model, job.cocktail, job.data.train, job.data.task, job.recipe)
    asked = Asked()
    recorder: Any = SimpleNamespace(latest={"val/loss": 0.5, "weights/all/update": 1.0}, measurement=asked)
    checkpoints: Any = SimpleNamespace(best_weights=module.snapshot(), best_epoch=3)
    trainer: Any = SimpleNamespace(
        current_epoch=7, is_global_zero=False, precision_plugin=SimpleNamespace(val_step_context=lambda: nullcontext())
    )
    finalizer = Finalizer(recorder, checkpoints)
    finalizer.on_fit_end(trainer, module)
    assert asked.devices == ({"meta"} if stops else set())
    best = {"val/loss": 0.25, "weights/all/l2": 2.0, "epoch": 3.0}
    assert finalizer.final == (best if stops else {"val/loss": 0.5, "weights/all/update": 1.0, "epoch": 7.0})
