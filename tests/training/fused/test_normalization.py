"""Batch normalization written out, against the library's on each member alone."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap

from reglab.training.fused.normalization import lower_normalization

MEMBERS = 3
EXACT = {"atol": 1e-10, "rtol": 1e-10}
OPTIONS = [{}, {"affine": False}, {"momentum": None}, {"track_running_stats": False}, {"momentum": 0.3, "eps": 0.1}]
KINDS = [(nn.BatchNorm1d, (6, 5)), (nn.BatchNorm1d, (6, 5, 4)), (nn.BatchNorm2d, (6, 5, 4, 3))]


def members_of(kind, options):
    torch.manual_seed(0)
    members = [kind(5, **options, dtype=torch.float64) for _ in range(MEMBERS)]
    for member in members:
        for weight in member.parameters():
            nn.init.normal_(weight)
    return members


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind, shape", KINDS)
@pytest.mark.parametrize("training", [True, False])
def test_two_stacked_steps_equal_the_members_alone(kind, shape, options, training):
    members = members_of(kind, options)
    base = copy.deepcopy(members[0])
    lower_normalization(base)
    for one in (base, *members):
        one.train(training)
    weights, buffers = stack_module_state(members)
    weights = {name: value.detach() for name, value in weights.items()}

    def loss(own, rows, slope, kept):
        kept = {name: value.clone() for name, value in kept.items()}
        outputs = functional_call(base, own | kept, (rows,))
        return (outputs * slope).sum(), (outputs, kept)

    for _ in range(2):
        inputs, slope = torch.randn(2, MEMBERS, *shape, dtype=torch.float64)
        step = vmap(grad(loss, argnums=(0, 1), has_aux=True))
        (own, slopes), (outputs, buffers) = step(weights, inputs, slope, buffers)
        rows = inputs.clone().requires_grad_()
        for member in members:
            member.zero_grad()
        expected = torch.stack([member(one) for member, one in zip(members, rows, strict=True)])
        (expected * slope).sum().backward()
        torch.testing.assert_close(outputs, expected, **EXACT)
        torch.testing.assert_close(slopes, rows.grad, **EXACT)
        for name, gradient in own.items():
            torch.testing.assert_close(gradient, torch.stack([m.get_parameter(name).grad for m in members]), **EXACT)
        for name, value in buffers.items():
            torch.testing.assert_close(value, torch.stack([m.get_buffer(name) for m in members]), **EXACT)


def test_lowered_models_copy_pickle_and_keep_their_state():
    model = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5))
    names, inputs = list(model.state_dict()), torch.randn(7, 3)
    expected = copy.deepcopy(model)(inputs)
    lower_normalization(model)
    for one in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert list(one.state_dict()) == names
        assert isinstance(one[1], nn.BatchNorm1d)
    for one in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(one(inputs), expected, atol=1e-5, rtol=1e-5)


def test_one_value_a_channel_and_wrong_dimensions_are_refused_as_by_the_library():
    model = nn.BatchNorm2d(2)
    lower_normalization(model)
    with pytest.raises(ValueError, match="Expected more than 1 value"):
        model(torch.ones(1, 2, 1, 1))
    with pytest.raises(ValueError, match="expected 4D"):
        model(torch.ones(3, 2))


def test_subclasses_of_others_stay_as_they_are():
    class Own(nn.BatchNorm1d):
        pass

    model = nn.Sequential(Own(2), nn.BatchNorm3d(2))
    lower_normalization(model)
    assert [type(module) for module in model] == [Own, nn.BatchNorm3d]
