"""Arguments that a class annotates as numbers, truth values or texts are these."""

import math

import pytest
from torch import optim

from reglab.config.argument_kinds import check_kinds
from reglab.core.errors import UserError
from reglab.regularizers import L1


class Example:
    def __init__(
        self, many: int = 1, much: float | None = 1.0, on: bool = True, which: str = "a", other: object = None
    ):
        pass


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("many", 1.5, "a whole number"),
        ("many", True, "a whole number"),
        ("much", "1", "a number"),
        ("much", {"a": 1}, "a number"),
        ("on", "false", "true or false"),
        ("on", 0, "true or false"),
        ("which", [1], "a text"),
    ],
)
def test_another_kind_is_told(name: str, value: object, wanted: str) -> None:
    with pytest.raises(UserError, match=rf"^model\.{name}=.* must be {wanted}$"):
        check_kinds(Example, {name: value}, "model")


def test_the_right_kind_is_taken() -> None:
    check_kinds(Example, {"many": 2, "much": 3, "on": False, "which": "b", "other": {"a": 1}}, "model")
    check_kinds(Example, {"much": math.inf}, "model")
    check_kinds(Example, {"much": None, "unknown": "x"}, "model")


def test_classes_of_torch_and_reglab_are_read() -> None:
    for cls, argument in ((optim.lr_scheduler.StepLR, "gamma"), (optim.SGD, "nesterov"), (L1, "where")):
        with pytest.raises(UserError, match=argument):
            check_kinds(cls, {argument: {"_target_": "os.system"}}, "key")
