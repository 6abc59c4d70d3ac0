import pytest
import torch
from torch import nn

from reglab.core.errors import UserError
from reglab.regularizers import L1, L2, Cocktail
from reglab.regularizers.select import check_selection, chosen, selected


def net():
    return nn.Sequential(nn.Conv1d(2, 3, 3), nn.BatchNorm1d(3), nn.Flatten(), nn.Linear(6, 4), nn.Linear(4, 2))


@pytest.mark.parametrize(
    "where, expected",
    [
        ("weights", ["0.weight", "3.weight", "4.weight"]),
        ("all", [name for name, _ in net().named_parameters()]),
        ("3.*", ["3.weight", "3.bias"]),
        ("*.bias", ["0.bias", "1.bias", "3.bias", "4.bias"]),
        ("0.weight 4.*", ["0.weight", "4.weight", "4.bias"]),
        ("[03].weight", ["0.weight", "3.weight"]),
        ("weight", []),
    ],
)
def test_selects_by_axes_and_by_patterns(where, expected):
    assert [name for name, _ in selected(net(), where)] == expected
    assert [name for name, _ in chosen(dict(net().named_parameters()), where)] == expected


def test_frozen_parameters_are_left_alone():
    model = net()
    model[3].requires_grad_(False)
    assert [name for name, _ in selected(model, "weights")] == ["0.weight", "4.weight"]


def test_inside_a_functional_call_plain_tensors_are_selected():
    model, actual = net(), []
    weights = {name: weight.detach().clone() for name, weight in model.named_parameters()}

    class Probe(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self):
            actual.extend(name for name, _ in selected(self.inner, "weights"))

    torch.func.functional_call(Probe(), {f"inner.{name}": weight for name, weight in weights.items()}, ())
    assert actual == ["0.weight", "3.weight", "4.weight"]


def test_a_selection_of_nothing_names_the_nearest():
    with pytest.raises(ValueError, match=r"where='3\.wieght' selects none.*did you mean '3\.weight'\?"):
        check_selection(net(), "3.wieght")


@pytest.mark.parametrize("kind", [L1, L2])
def test_a_cocktail_refuses_a_member_that_selects_nothing(kind):
    with pytest.raises(UserError, match=r"regularizer\.mine: where='hidden\.\*' selects none"):
        Cocktail({"mine": kind(0.1, where="hidden.*")}, 0, "classification").prepare(net())


def test_the_same_method_twice_acts_on_two_selections():
    members = {"l1": L1(0.5, where="3.weight"), "head": L1(0.0, where="4.weight")}
    cocktail = Cocktail(members, 0, "classification")
    model = cocktail.prepare(net())
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    cocktail.after_step(model, dict.fromkeys(before, torch.tensor(1.0)))
    assert (model[3].weight == 0).all()
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters() if name != "3.weight")
