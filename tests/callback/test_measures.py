"""Measures of the user's choice in the callback: their epochs, their state in checkpoints."""

from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from callback.own_module import LIGHTNING_WARNS, OwnModule, loaders, trainer
from reglab.callback.regularize import Regularize
from reglab.core.errors import UserError
from reglab.measures import Gap, Gradients, Measure, Measured, SpectralShape, Spectrum

pytestmark = LIGHTNING_WARNS


class Calls(Measure):
    """How often it was called."""

    def measure(self, of: Measured, state: dict[str, Tensor]) -> dict[str, Tensor]:
        first = next(iter(of.weights.values()))
        state["calls"] = state.get("calls", first.new_zeros(1)) + 1
        return {"own/calls": state["calls"]}


def regularize(**options: Any) -> Regularize:
    measures = {"gap": Gap(), "spectrum": Spectrum(every=2), "gradients": Gradients(), "calls": Calls()}
    return Regularize([], "classification", measures=measures, **options)


def test_they_are_measured_when_due_and_no_others() -> None:
    callback = regularize()
    trainer([callback], epochs=3).fit(OwnModule(), *loaders())
    assert [each["own/calls"] for each in callback.history] == [1, 2, 3, 4]
    assert ["weights/all/spectral_norm" in each for each in callback.history] == [True, False, True, True]
    assert all(each["gradient/all/norm"] > 0 and "val/loss" in each for each in callback.history)
    assert not any("weights/all/l2" in each for each in callback.history)


def test_a_resumed_fit_goes_on_with_what_they_keep(tmp_path: Path) -> None:
    first, module = regularize(), OwnModule()
    fitting = trainer([first], epochs=1)
    fitting.fit(module, *loaders())
    fitting.save_checkpoint(tmp_path / "cut.ckpt")
    resumed = regularize()
    trainer([resumed], epochs=3).fit(OwnModule(), *loaders(), ckpt_path=tmp_path / "cut.ckpt", weights_only=False)
    assert [each["own/calls"] for each in resumed.history] == [2, 3, 4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"measures": {"gap": Gap(), "shape": SpectralShape()}}, r"shape is taken once.*SpectralShape\(every=\.\.\.\)"),
        ({"measures": {"gap": Gap(), "spectrum": Spectrum(every=3)}, "every": 2}, "multiple of measure.every=2"),
        ({"measures": {"spectrum": Spectrum()}}, "leaves out the gap"),
        ({"measures": {"gap": Gap()}, "every": None}, "measures= say what is measured, and every=None"),
    ],
)
def test_what_would_not_be_measured_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Regularize([], "classification", **options)
