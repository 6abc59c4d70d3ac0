import sys

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from reglab.cli.import_path import trust_given
from reglab.config import trust
from reglab.config.instantiate import locate
from reglab.core.errors import UserError

NET = "from torch import nn\nfrom os import path\nimport os\nclass Net(nn.Module):\n    pass\n"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A user's own package, and a process that trusts nothing yet."""
    (tmp_path / "somebodys.py").write_text(NET)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "somebodys", raising=False)
    monkeypatch.delenv(trust.VARIABLE, raising=False)
    with trust.isolated():
        yield "somebodys"


def found(target="somebodys.Net"):
    return locate(target, nn.Module, "model").__name__


def test_an_unlisted_package_is_refused_with_what_to_type(package):
    with pytest.raises(UserError) as refused:
        found()
    assert str(refused.value).startswith(
        "model._target_=somebodys.Net: somebodys is not trusted to be imported by a configuration; if it is yours, "
        "add trust=[somebodys]"
    )


def test_it_is_trusted_by_call_by_the_command_line_or_by_the_environment(package, monkeypatch):
    monkeypatch.setenv(trust.VARIABLE, " other, somebodys,")
    assert found() == "Net"
    monkeypatch.delenv(trust.VARIABLE)
    with pytest.raises(UserError, match="not trusted"):
        found()
    with trust.isolated():
        trust_given(["seed=3", f"trust=[{package}]"])
        assert found() == "Net"
    with pytest.raises(UserError, match="not trusted"):
        found()
    trust.trust(package)
    assert found() == "Net"


@pytest.mark.parametrize(
    "word, trusted",
    [
        ("trust=null", []),
        ("trust=[]", []),
        ("trust=somebodys", ["somebodys"]),
        ("+trust=[somebodys]", ["somebodys"]),
        ("trust=[somebodys],[other]", ["other", "somebodys"]),
        ("~trust", []),
        ("name=trust", []),
        ("x.trust=[somebodys]", []),
    ],
)
def test_the_command_line_lists_none_one_or_several(package, word, trusted):
    trust_given([word])
    assert trust.trusted_packages() == trusted


@pytest.mark.parametrize("name", ["os", "builtins", "a.b", "''", "a-b", "3", "pickle"])
def test_what_is_no_package_of_the_users_cannot_be_listed(package, name):
    with pytest.raises(UserError, match="not the name of a top-level package of yours"):
        trust_given([f"trust=[{name}]"])


@pytest.mark.parametrize("listed", ["somebodys", ["somebodys"], ["other", "somebodys"]])
def test_a_config_may_list_what_the_user_trusts_and_no_more(package, listed):
    with pytest.raises(UserError, match=r"^trust=\['.*somebodys'\] is set in a file"):
        trust.check_listed(listed)
    trust.trust(package, "other")
    trust.check_listed(listed)
    trust.check_listed(None)


@pytest.mark.parametrize(
    "target",
    [
        "somebodys.os.system",
        "somebodys.path.join",
        "torch.nn.modules.os.system",
        "torch.serialization.pickle.Unpickler",
        "torch.nn.Module.__subclasses__",
    ],
)
def test_a_path_cannot_lead_out_of_a_trusted_package(package, target):
    trust.trust(package, "torch")
    with pytest.raises(UserError, match=r"^model\._target_"):
        found(target)


def test_a_class_that_another_package_defines_is_refused(package, tmp_path):
    (tmp_path / "somebody_else.py").write_text(NET)
    (tmp_path / "somebodys.py").write_text("from somebody_else import Net\n")
    trust.trust(package)
    with pytest.raises(UserError, match=r"somebodys.Net is defined in somebody_else: .*add trust=\[somebody_else\]"):
        found()
    trust.trust("somebody_else")
    assert found() == "Net"


def test_of_torch_the_parts_that_only_compute_are_trusted(package):
    assert locate("torch.nn.Linear", nn.Module, "model") is nn.Linear
    assert locate("torch.optim.swa_utils.SWALR", LRScheduler, "scheduler") is torch.optim.swa_utils.SWALR
    for target in ("torch.fx.GraphModule", "torch.jit.ScriptModule", "torchmetrics.text.BERTScore", "torch.nnn.Net"):
        with pytest.raises(UserError, match="not trusted"):
            found(target)
