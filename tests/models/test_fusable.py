"""Every model trains in a stack of members as it does solo: what fused sweeps rest on."""

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from reglab.models import CNN, MLP, Linear

MODELS = {
    "linear": lambda: Linear(inputs=(2, 8), outputs=3),
    "mlp": lambda: MLP(6, 2, "gelu", inputs=(2, 8), outputs=3),
    "mlp-batch": lambda: MLP([6, 5], norm="batch", inputs=(2, 8), outputs=3),
    "mlp-layer": lambda: MLP(6, 2, norm="layer", inputs=(2, 8), outputs=3),
    "cnn1": lambda: CNN([4, 5], inputs=(2, 8), outputs=3),
    "cnn1-batch": lambda: CNN([4, 5], norm="batch", inputs=(2, 8), outputs=3),
    "cnn2": lambda: CNN([4, 5], inputs=(2, 4, 4), outputs=3),
    "cnn2-batch": lambda: CNN([4, 5], norm="batch", inputs=(2, 4, 4), outputs=3),
    "cnn2-layer": lambda: CNN([4, 5], norm="layer", inputs=(2, 4, 4), outputs=3),
}


@pytest.mark.parametrize("case", MODELS)
def test_stacked_members_have_the_gradients_and_buffers_that_each_has_alone(case):
    torch.manual_seed(0)
    members = [MODELS[case]().double() for _ in range(3)]
    rows = torch.randn(7, 2, 4, 4, dtype=torch.float64)
    rows = rows if case.startswith("cnn2") else rows.flatten(2)[:, :, :8]
    targets = torch.randint(0, 3, (7,))
    parameters, buffers = stack_module_state(members)
    skeleton = copy.deepcopy(members[0])

    def loss(weights, state):
        outputs = functional_call(skeleton, (weights, state), (rows,))
        return nn.functional.cross_entropy(outputs, targets)

    gradients, losses = vmap(grad_and_value(loss))(parameters, buffers)

    for number, member in enumerate(members):
        solo = nn.functional.cross_entropy(member(rows), targets)
        solo.backward()
        torch.testing.assert_close(losses[number], solo.detach())
        for name, parameter in member.named_parameters():
            torch.testing.assert_close(gradients[name][number], parameter.grad, atol=1e-12, rtol=1e-10)
        for name, buffer in member.named_buffers():
            torch.testing.assert_close(buffers[name][number], buffer)
