import sys

import pytest
import torch
from torch import nn

from reglab.config.instantiate import build, construct, locate
from reglab.core.errors import UserError
from reglab.regularizers import L1, Regularizer


class Needy:
    def __init__(self, width, depth=2, *, units):
        self.width, self.depth, self.units = width, depth, units
        if width < 0:
            raise ValueError(f"width must be >= 0, got {width}")


class Open:
    def __init__(self, **options):
        self.options = options


def test_locates_a_class_by_its_path():
    assert locate("reglab.regularizers.L1", Regularizer, "regularizer.l1") is L1
    assert locate("torch.nn.modules.linear.Linear", nn.Module, "model") is nn.Linear


def test_locates_a_class_of_the_users_own_package(tmp_path, monkeypatch):
    (tmp_path / "users_own_nets.py").write_text("from torch import nn\nclass Net(nn.Module):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("REGLAB_TRUST", "users_own_nets")
    assert issubclass(locate("users_own_nets.Net", nn.Module, "model"), nn.Module)


@pytest.mark.parametrize(
    "target", [None, 3, "L1", "???", ["builtins.open"], ".L1", "reglab.__main__.L1", "reglab.re\0g.L1", "reglab.a-b.L1"]
)
def test_a_target_that_is_no_path_is_refused(target):
    with pytest.raises(UserError, match=r"^regularizer\.l1\._target_.*dotted path of a Regularizer class"):
        locate(target, Regularizer, "regularizer.l1")


@pytest.mark.parametrize(
    "target",
    ["torch.nn.functional.relu", "torch.nn.init", "torch.optim.Adam", "reglab.config.instantiate.build", "reglab.L1"],
)
def test_functions_modules_and_classes_of_another_type_are_refused(target):
    base = torch.optim.lr_scheduler.LRScheduler
    with pytest.raises(UserError, match=rf"scheduler\._target_={target} is not a subclass of torch\.optim\.lr_sche"):
        locate(target, base, "scheduler")


@pytest.mark.parametrize("target", ["builtins.open", "torch.load", "os.system", "joblib.load", "builtins.dict"])
def test_what_lies_outside_trusted_packages_is_refused(target):
    with pytest.raises(UserError, match=rf"^model\._target_={target}: "):
        locate(target, nn.Module, "model")


def test_refusing_calls_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("REGLAB_TRUST", "unwanted_target")
    trace = tmp_path / "called"
    (tmp_path / "unwanted_target.py").write_text(f"def make(**_):\n    open({str(trace)!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError):
        build({"_target_": "unwanted_target.make"}, nn.Module, "model")
    assert "unwanted_target" in sys.modules  # it was found,
    assert not trace.exists()  # and not called


def test_a_missing_module_says_what_to_do(monkeypatch):
    monkeypatch.setenv("REGLAB_TRUST", "no_such_package")
    with pytest.raises(UserError, match=r"cannot import 'no_such_package'.*installed.*PYTHONPATH"):
        locate("no_such_package.Net", nn.Module, "model")


def test_a_misspelt_class_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'Dropout'"):
        locate("reglab.regularizers.Droput", Regularizer, "regularizer.dropout")


def test_constructs_from_keywords():
    made = construct(Needy, {"width": 3, "units": 4}, "model")
    assert (made.width, made.depth, made.units) == (3, 2, 4)
    assert construct(Open, {"anything": 1}, "model").options == {"anything": 1}


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"widht": 3}, r"model\.widht: Needy has no such argument; did you mean 'width'\?"),
        ({}, r"model: Needy needs width, units; give it on the command line as \+model\.width="),
        ({"width": "???", "units": 1}, r"model: Needy needs width; give it on the command line as \+model\.width="),
        ({"width": -1, "units": 1}, r"model: width must be >= 0, got -1"),
        ({"width": "wide", "units": 1}, r"^model: "),
    ],
)
def test_bad_arguments_are_user_errors(arguments, message):
    with pytest.raises(UserError, match=message):
        construct(Needy, arguments, "model")


def test_a_number_out_of_range_keeps_name_range_and_value():
    with pytest.raises(UserError, match=r"regularizer\.l1: strength must be finite and >= 0, got -0\.1"):
        build({"_target_": "reglab.regularizers.L1", "strength": -0.1}, Regularizer, "regularizer.l1")


def test_builds_with_what_the_engine_adds():
    weights = [torch.zeros(2, requires_grad=True)]
    node = {"_target_": "torch.optim.SGD", "lr": 0.5}
    optimizer = build(node, torch.optim.Optimizer, "optimizer", params=weights)
    assert optimizer.param_groups[0]["params"] == weights
    assert optimizer.param_groups[0]["lr"] == 0.5
    assert node == {"_target_": "torch.optim.SGD", "lr": 0.5}
