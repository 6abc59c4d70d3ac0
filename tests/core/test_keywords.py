"""A misspelt keyword is a TypeError that names the nearest one."""

import inspect
from typing import Any

import pytest
from torch import nn

import reglab


@pytest.mark.parametrize(
    "call, wrong, right",
    [
        (lambda **more: reglab.fit(nn.Linear(4, 3), None, **more), "regularisers", "regularizers"),
        (lambda **more: reglab.fit(nn.Linear(4, 3), None, **more), "epoch", "epochs"),
        (lambda **more: reglab.sweep(print, {"lr": [1]}, **more), "seed", "seeds"),
        (lambda **more: reglab.Regularize([reglab.L1()], **more), "score", "scores"),
    ],
)
def test_the_nearest_keyword_is_named(call: Any, wrong: str, right: str) -> None:
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{wrong}': did you mean '{right}'"):
        call(**{wrong: 1})


def test_signatures_stay_as_they_are() -> None:
    assert list(inspect.signature(reglab.Regularize).parameters)[:3] == ["regularizers", "task", "loss"]
    assert "epochs" in inspect.signature(reglab.fit).parameters
    assert str(inspect.signature(reglab.sweep)).endswith("-> reglab.sweeps.function_sweep.Sweep")
