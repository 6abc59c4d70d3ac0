import copy
import math

import pytest
import torch
from torch import nn

from reglab.core.errors import UserError
from reglab.measures import evaluate
from reglab.measures.evaluate import evaluation_mode


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 3)).double()


def examples(rows: int = 11):
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(rows, 4, generator=generator, dtype=torch.float64)
    return inputs, torch.randint(0, 3, (rows,), generator=generator)


def test_equals_a_hand_written_evaluation_loop():
    model, (inputs, targets) = network(), examples()
    first, norm, last = model[0], model[1], model[4]
    measured = evaluate(model, inputs, targets, "classification", batch_rows=3)
    for row, target, loss in zip(inputs, targets, measured.losses, strict=True):
        hidden = (first.weight @ row + first.bias - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
        logits = (last.weight @ (hidden * norm.weight + norm.bias).clamp(min=0) + last.bias).tolist()
        expected = math.log(sum(math.exp(logit) for logit in logits)) - logits[int(target)]
        assert loss.item() == pytest.approx(expected, abs=1e-12)


def test_modes_and_buffers_are_as_before_and_no_gradient_is_kept():
    model, (inputs, targets) = network().train(), examples()
    model[1].eval()  # a frozen normalization layer
    before, modes = copy.deepcopy(model.state_dict()), [module.training for module in model.modules()]
    measured = evaluate(model, inputs, targets, "classification")
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not measured.losses.requires_grad
    assert not measured.outputs.requires_grad


def test_random_numbers_of_training_are_not_used_up():
    model, (inputs, targets) = network().train(), examples()
    state = torch.get_rng_state()
    evaluate(model, inputs, targets, "classification")
    assert torch.equal(state, torch.get_rng_state())


def test_batches_do_not_change_the_answer():
    model, (inputs, targets) = network(), examples()
    whole = evaluate(model, inputs, targets, "classification")
    parts = evaluate(model, inputs, targets, "classification", batch_rows=2)
    torch.testing.assert_close(whole.losses, parts.losses, atol=1e-12, rtol=0)
    torch.testing.assert_close(whole.outputs, parts.outputs, atol=1e-12, rtol=0)


def test_modes_come_back_after_an_error():
    model = network().train()
    with pytest.raises(RuntimeError), evaluation_mode(model):
        model(torch.zeros(2, 99, dtype=torch.float64))
    assert all(module.training for module in model.modules())


class Merging(nn.Linear):
    """Does something on a change of mode, as adapters that merge into their base do."""

    def train(self, mode=True):
        self.merged = not mode
        return super().train(mode)


def test_a_module_that_acts_on_a_change_of_mode_is_told_of_the_way_back():
    model = nn.Sequential(Merging(4, 3)).train()
    evaluate(model, torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64), "classification")
    assert not model[0].merged


def test_outputs_that_are_no_tensor_are_named():
    class Pair(nn.Linear):
        def forward(self, inputs):
            return super().forward(inputs), inputs

    with pytest.raises(UserError, match="Pair returned a tuple"):
        evaluate(Pair(4, 3), torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64), "classification")
