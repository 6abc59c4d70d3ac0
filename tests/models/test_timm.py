"""Models of timm: through a stand-in for the package, and through timm itself where it is installed
and works.
"""

import importlib.util
import sys
from types import ModuleType

import pytest
import torch
from torch import nn

from reglab.core.errors import UserError
from reglab.models import build

NODE = {"_target_": "reglab.models.Timm", "name": "resnet50"}


class Net(nn.Module):
    def __init__(self, in_chans, num_classes, drop_rate=0.0):
        super().__init__()
        self.rate = drop_rate
        self.head = nn.Linear(in_chans, num_classes)

    def forward(self, images):
        assert images.shape[-1] == 8, "Input width doesn't match model (8)"
        return self.head(images.mean((2, 3)))


@pytest.fixture
def calls(monkeypatch):
    """Put a stand-in in the place of timm; return what ``create_model`` is called with."""
    observed = []

    def create_model(name, pretrained=False, **options):
        observed.append((name, pretrained, options))
        if pretrained:
            raise OSError("no connection\nand more")
        return Net(**options)

    stand_in = ModuleType("timm")
    stand_in.list_models = lambda: ["resnet18", "resnet50", "vit_tiny"]
    stand_in.is_model = lambda name: name.partition(".")[0] in stand_in.list_models()
    stand_in.create_model = create_model
    monkeypatch.setitem(sys.modules, "timm", stand_in)
    return observed


def test_channels_and_classes_come_from_the_data_and_nothing_is_downloaded(calls):
    model = build({**NODE, "drop_rate": 0.25}, (3, 8, 8), 5)
    assert calls == [("resnet50", False, {"in_chans": 3, "num_classes": 5, "drop_rate": 0.25})]
    assert model(torch.ones(4, 3, 8, 8)).shape == (4, 5)
    assert model.net.rate == 0.25


@pytest.mark.usefixtures("calls")
@pytest.mark.parametrize(
    "changes, shape, message",
    [
        ({"name": None}, (3, 8, 8), r"model\.name is not set.*model\.name=resnet50"),
        ({"name": "resnt50"}, (3, 8, 8), r"model\.name=resnt50 is no model of timm; did you mean 'resnet50'"),
        ({"name": "resnt50.a1_in1k"}, (3, 8, 8), "did you mean 'resnet50'"),
        ({"name": "zzz"}, (3, 8, 8), r"timm\.list_models\(\) lists them"),
        ({"name": "hf-hub:someone/resnet50"}, (3, 8, 8), "is no model of timm"),
        ({"drop_raet": 0.1}, (3, 8, 8), "unexpected keyword argument 'drop_raet'"),
        ({"checkpoint_path": "stolen.pt"}, (3, 8, 8), r"model\.checkpoint_path is not passed on to timm"),
        ({"pretrained_cfg": {"url": "http://x"}}, (3, 8, 8), r"model\.pretrained_cfg is not passed on"),
        ({"pretrained": True}, (3, 8, 8), r"cannot make resnet50 \(no connection\); model\.pretrained=false"),
        ({}, (3, 9, 9), r"cannot read inputs of shape \[rows, 3, 9, 9\]: Input width doesn't match"),
        ({}, (64,), r"takes in_chans, but the inputs are flat.*data\.shape=image"),
    ],
)
def test_what_does_not_fit_is_named(changes, shape, message):
    with pytest.raises(UserError, match=message):
        build({**NODE, **changes}, shape, 5)


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"timm is not installed; install it: pip install timm .*setup timm"):
        build(NODE, (3, 8, 8), 5)


@pytest.mark.parametrize(
    "content, message",
    [
        ("import no_such_package_at_all", r"cannot be imported \(No module named .*pip install --upgrade timm"),
        ("raise RuntimeError('operator torchvision::nms does not exist')", "must be the build for this torch"),
    ],
)
def test_a_package_that_cannot_be_imported_is_told_apart(monkeypatch, tmp_path, content, message):
    (tmp_path / "timm.py").write_text(content)
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=message):
        build(NODE, (3, 8, 8), 5)


def test_timm_itself_where_it_works():
    if importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed: it is an extra")
    try:
        import timm
    except RuntimeError as error:
        pytest.skip(f"timm needs a torchvision that was built for this torch: {error}")
    torch.manual_seed(0)
    model = build({**NODE, "name": "resnet18", "drop_path_rate": 0.1}, (1, 32, 32), 3)
    torch.manual_seed(0)
    same = timm.create_model("resnet18", in_chans=1, num_classes=3, drop_path_rate=0.1)
    images = torch.randn(2, 1, 32, 32)
    assert torch.equal(model.eval()(images), same.eval()(images))
    with pytest.raises(UserError, match="did you mean 'resnet50'"):
        build({**NODE, "name": "resnt50"}, (1, 32, 32), 3)
