"""What ``trainer.compile`` may say."""

from typing import Any

import laws_harness as harness
import pytest

from reglab.core.errors import UserError
from reglab.training.check import check_experiment
from reglab.training.torch_compile import compile_options


@pytest.mark.parametrize(
    "setting, message",
    [
        ("overhead", "trainer.compile: 'overhead' is no mode of torch.compile; did you mean 'reduce-overhead'?"),
        (3, r"trainer.compile must be true, false, a mode \(.*reduce-overhead.*\) or a mapping .*, got 3"),
        ({"modes": "default"}, "trainer.compile.modes: torch.compile has no such option; did you mean 'mode'?"),
        ({"backend": "inducto"}, "trainer.compile: 'inducto' is no backend .* did you mean 'inductor'?"),
        ({"dynamic": "yes"}, "trainer.compile.dynamic must be true or false, got 'yes'"),
        ({"options": {"cpp.cxx": "/bin/echo"}}, "trainer.compile.options.cpp.cxx must be true, false or a number"),
        ({"options": "fast"}, "trainer.compile.options must be a mapping"),
        ({"options": {"no_such": True}}, "trainer.compile: .*no_such"),
        ({"mode": "default", "options": {"max_autotune": True}}, "trainer.compile: .*mode.*options"),
    ],
)
def test_a_setting_that_is_wrong_is_refused_before_training(setting: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_experiment(harness.experiment({}, trainer={"compile": setting}))


@pytest.mark.parametrize(
    "setting, options",
    [
        (False, None),
        (None, None),
        (True, {"dynamic": False}),
        ("reduce-overhead", {"dynamic": False, "mode": "reduce-overhead"}),
        ({"dynamic": True, "options": {"max_autotune": True}}, {"dynamic": True, "options": {"max_autotune": True}}),
    ],
)
def test_what_a_setting_stands_for(setting: Any, options: dict[str, Any] | None) -> None:
    assert compile_options(setting) == options
