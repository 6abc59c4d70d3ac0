import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from reglab.core.errors import UserError
from reglab.regularizers import (
    EMA,
    L1,
    L2,
    SAM,
    Batch,
    Cocktail,
    Dropout,
    Flooding,
    L1Subgradient,
    LabelSmoothing,
    Regularizer,
    name_members,
)


def test_it_is_shown_with_its_numbers_and_what_is_not_the_default():
    assert repr(L1(1e-3)) == "L1(strength=0.001)"
    assert repr(L1(where="head.*")) == "L1(strength=0.0001, where='head.*')"
    assert repr(EMA(0.9)) == "EMA(strength=0.9, warmup=9.0)"
    assert repr(Tracer([])) == "Tracer(trace=[])"


class Tracer(Regularizer):
    """Writes down when it is called, in a list that is handed in."""

    def __init__(self, trace):
        super().__init__()
        self.trace = trace

    def on_model(self, model):
        self.trace.append(f"model {self.name}")
        return model

    def on_objective(self, objective):
        def traced(model, batch):
            self.trace.append(f"objective {self.name} in")
            outcome = objective(model, batch)
            self.trace.append(f"objective {self.name} out")
            return outcome

        return traced

    def on_gradient(self, gradient):
        def traced(offset=None):
            self.trace.append(f"gradient {self.name}")
            return gradient(offset)

        return traced

    def before_step(self, model, lr):
        self.trace.append(f"before {self.name}")

    def on_step(self, model, step_size):
        self.trace.append(f"step {self.name}")


class Renaming(Regularizer):
    def on_model(self, model):
        parametrizations.weight_norm(model[0])
        return model


class Adding(Regularizer):
    def on_model(self, model):
        model.register_parameter("extra", nn.Parameter(torch.zeros(1)))
        return model


def net():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))


def batch(rows=6):
    return Batch(torch.randn(rows, 4), [(torch.ones(()), torch.zeros(rows, dtype=torch.int64))], torch.arange(rows))


def each(outputs, targets):
    return nn.functional.cross_entropy(outputs, targets, reduction="none")


def test_the_first_member_is_innermost_and_every_hook_goes_in_their_order():
    trace = []
    cocktail = Cocktail({"a": Tracer(trace), "b": Tracer(trace)}, 0, "classification")
    model = cocktail.prepare(net())
    cocktail.objective(each)(model, batch())
    cocktail.gradient(lambda offset: trace.append("gradient itself"))(None)
    cocktail.before_step(model, {})
    cocktail.after_step(model, {})
    assert trace == [
        "model a", "model b",
        "objective b in", "objective a in", "objective a out", "objective b out",
        "gradient b", "gradient a", "gradient itself",
        "before a", "before b", "step a", "step b",
    ]  # fmt: skip


def test_order_is_nesting_in_numbers():
    """Flooding outside smoothing floods the smoothed loss; inside, the data loss alone."""
    logits = torch.tensor([[4.0, 0.0, 0.0]], dtype=torch.float64)
    target = torch.tensor([0])
    plain = nn.functional.cross_entropy(logits, target)
    smooth = nn.functional.cross_entropy(logits, target, label_smoothing=0.5)
    level = float(plain + smooth) / 2

    def loss(members):
        objective = Cocktail(members, 0, "classification").objective(each)
        return objective(nn.Identity(), Batch(logits, [(torch.ones(()), target)], torch.arange(1))).loss

    outside = loss({"s": LabelSmoothing(0.5), "f": Flooding(level)})
    inside = loss({"f": Flooding(level), "s": LabelSmoothing(0.5)})
    torch.testing.assert_close(outside, smooth)  # above the level already
    torch.testing.assert_close(inside, 2 * level - plain + (smooth - plain))


def test_the_data_loss_is_the_weighted_mean_over_rows():
    weight = torch.tensor([0.0, 2.0, 1.0])
    logits, targets = torch.randn(3, 4), torch.tensor([0, 1, 2])
    objective = Cocktail({}, 0, "classification").objective(each)
    outcome = objective(nn.Identity(), Batch(logits, [(weight, targets)], torch.arange(3)))
    expected = (weight * -logits.log_softmax(1)[torch.arange(3), targets]).sum() / 3
    torch.testing.assert_close(outcome.loss, expected)
    assert set(outcome.terms) == {"task"}


def test_penalties_have_their_names_and_are_summed_in_float32_at_least():
    cocktail = Cocktail({"l2": L2(1.0), "first": L1Subgradient(1.0)}, 0, "classification")
    # In bfloat16 a sum of 10,000 ones stops at 256.
    actual = cocktail.penalties({"w": torch.ones(100, 100, dtype=torch.bfloat16)})
    assert {name: (float(value), value.dtype) for name, value in actual.items()} == {
        "l2": (5000.0, torch.float32),
        "first": (10000.0, torch.float32),
    }
    assert cocktail.penalties({"w": torch.ones(2, 2, dtype=torch.float64)})["l2"].dtype == torch.float64
    assert Cocktail({"l1": L1()}, 0, "classification").penalties({"w": torch.ones(2, 2)}) == {}


def test_two_owners_of_one_thing_are_refused_by_name():
    with pytest.raises(UserError, match="regularizers slow and fast both own the weight average; keep one of them"):
        Cocktail({"slow": EMA(0.99), "fast": EMA(0.9)}, 0, "classification")


def test_a_member_that_does_not_fit_the_task_is_refused():
    with pytest.raises(UserError, match=r"smooth does not fit a regression task; it fits: binary, class"):
        Cocktail({"smooth": LabelSmoothing()}, 0, "regression")


@pytest.mark.parametrize("name", ["task", "my l1", "l1-strong", "1st", ""])
def test_a_name_that_cannot_stand_in_a_key_or_beside_the_data_loss_is_refused(name):
    with pytest.raises(UserError, match="regularizer name"):
        Cocktail({name: L1()}, 0, "classification")


def test_members_are_named_by_their_files_and_numbered():
    named = name_members([L1(), L1Subgradient(), L1(), Tracer([])])
    assert list(named) == ["l1", "l1_subgradient", "l1_2", "tracer"]


@pytest.mark.parametrize("member", [Renaming(), Adding()])
def test_a_member_that_renames_or_adds_parameters_is_refused(member):
    with pytest.raises(UserError, match=r"regularizer\.mine renamed or added parameters of the model"):
        Cocktail({"mine": member}, 0, "classification").prepare(net())


def test_a_models_own_dropout_is_keyed_by_example_and_step():
    cocktail = Cocktail({}, 0, "classification")
    model = cocktail.prepare(net()).train()
    assert not any(type(module) is nn.Dropout for module in model.modules())
    inputs, index = torch.randn(6, 4), torch.tensor([9, 4, 0, 77, 3, 5])

    def forward(rows):
        cocktail.keys.begin()
        return model(rows)

    cocktail.keys.index = index
    first = forward(inputs)
    torch.manual_seed(1)
    assert torch.equal(forward(inputs), first)
    order = torch.randperm(6)
    cocktail.keys.index = index[order]
    assert torch.equal(forward(inputs[order]), first[order])
    cocktail.keys.step.add_(1)
    assert not torch.equal(forward(inputs[order]), first[order])
    assert torch.equal(model.eval()(inputs), model(inputs))


@pytest.mark.parametrize("rate", [0.0, 0.25, 1.0])
def test_a_models_own_dropout_keeps_its_rate(rate):
    cocktail = Cocktail({}, 0, "classification")
    outputs = cocktail.prepare(nn.Sequential(nn.Dropout(rate))).train()(torch.ones(400, 100))
    kept = outputs != 0
    assert float(kept.double().mean()) == pytest.approx(1 - rate, abs=0.01)
    torch.testing.assert_close(outputs[kept], torch.full_like(outputs[kept], 1 / (1 - rate) if rate < 1 else 1))


def test_a_dropout_module_that_stands_in_two_places_is_taken_over_in_both():
    shared = nn.Dropout(0.5)
    model = Cocktail({}, 0, "classification").prepare(nn.Sequential(shared, nn.Identity(), shared))
    assert not any(isinstance(module, nn.Dropout) for module in model.children())
    assert float((model.train()(torch.ones(400, 100)) != 0).double().mean()) == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("cast", [lambda it: it.to(torch.bfloat16), lambda it: it.half(), lambda it: it.float()])
def test_numbers_and_keys_are_moved_but_never_cast(cast):
    cocktail = Cocktail({"ema": EMA(0.9999), "l1": L1(1e-30)}, 2**40 + 1, "classification")
    cocktail.prepare(net())
    holder = nn.ModuleDict({"cocktail": cocktail, "other": nn.Linear(2, 2)})
    moved = cast(holder)
    assert moved["cocktail"].members["ema"].strength.dtype == torch.float64
    assert float(moved["cocktail"].members["ema"].strength) == 0.9999
    assert float(moved["cocktail"].members["l1"].strength) == 1e-30
    assert moved["cocktail"].members["ema"].average_0__weight.dtype == torch.float32
    assert int(moved["cocktail"].keys.seed) == 2**40 + 1


def test_a_deep_copy_is_a_cocktail_of_its_own():
    both = nn.ModuleDict({"cocktail": Cocktail({"dropout": Dropout(0.5)}, 0, "classification"), "model": net()})
    both["model"] = both["cocktail"].prepare(both["model"])
    twin = copy.deepcopy(both)
    assert twin["cocktail"].members["dropout"].keys is twin["cocktail"].keys
    inputs = torch.randn(6, 4)
    for pair in (both, twin):
        pair["cocktail"].keys.index = torch.arange(6)
    before = both["model"](inputs)
    assert torch.equal(twin["model"](inputs), before)
    twin["cocktail"].members["dropout"].strength.fill_(0.9)
    twin["cocktail"].keys.step.add_(5)
    for pair in (both, twin):
        pair["cocktail"].keys.begin()
    assert torch.equal(both["model"](inputs), before)
    assert not torch.equal(twin["model"](inputs), before)


def test_a_layer_that_is_called_twice_in_a_forward_draws_twice_and_the_same_again_in_the_next():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, inputs):
            return torch.stack([self.drop(inputs), self.drop(inputs)])

    cocktail = Cocktail({}, 0, "classification")
    model = cocktail.prepare(Twice()).train()
    first, second = model(torch.ones(8, 16))
    assert not torch.equal(first, second)
    cocktail.keys.begin()
    assert torch.equal(model(torch.ones(8, 16)), torch.stack([first, second]))


def test_a_checkpoint_holds_numbers_and_step_once_and_restores_them():
    cocktail = Cocktail({"l1": L1(0.3), "dropout": Dropout(0.2)}, 7, "classification")
    assert set(cocktail.state_dict()) == {"keys.seed", "keys.step", "members.l1.strength", "members.dropout.strength"}
    cocktail.keys.step.fill_(12)
    other = Cocktail({"l1": L1(0.1), "dropout": Dropout(0.1)}, 0, "classification")
    other.load_state_dict(cocktail.state_dict())
    assert (int(other.keys.seed), int(other.keys.step)) == (7, 12)
    assert float(other.members["l1"].strength) == 0.3


def test_it_says_what_its_members_do():
    def facts(*members):
        cocktail = Cocktail(name_members(members), 0, "classification")
        return cocktail.wraps_gradient, cocktail.averages, cocktail.stops

    assert facts(L1(), L2(), Dropout()) == (False, False, False)
    assert facts(SAM()) == (True, False, False)
    assert facts(EMA()) == (False, True, False)


class LargestSingularValue(Regularizer):
    separable = False

    def penalty(self, weights):
        return torch.linalg.matrix_norm(weights["w"], 2)


def test_penalties_that_are_sums_and_those_that_need_whole_tensors_can_be_asked_for_apart():
    members = {"l2": L2(1.0), "spectral": LargestSingularValue(), "l1": L1Subgradient(1.0)}
    cocktail = Cocktail(members, 0, "classification")
    weights = {"w": torch.diag(torch.tensor([3.0, 4.0], dtype=torch.float64))}
    sums, others = cocktail.penalties(weights, separable=True), cocktail.penalties(weights, separable=False)
    assert {name: float(value) for name, value in sums.items()} == {"l2": 12.5, "l1": 7.0}
    assert {name: float(value) for name, value in others.items()} == pytest.approx({"spectral": 4.0})
    assert list(cocktail.penalties(weights)) == ["l2", "spectral", "l1"]
    assert Cocktail({"l2": L2()}, 0, "classification").penalties(weights, separable=False) == {}


def test_sums_and_losses_go_through_what_it_was_bound_to_and_by_default_nowhere():
    cocktail = Cocktail({"l2": L2(), "sam": SAM()}, 0, "classification")
    value = torch.tensor(2.0)
    assert all(member.total(value) is value and member.mean(value) is value for member in cocktail.members.values())
    cocktail.bind(mean=lambda loss: loss / 2, total=lambda sums: 3 * sums)
    assert [(float(it.mean(value)), float(it.total(value))) for it in cocktail.members.values()] == [(1.0, 6.0)] * 2


class Memory(Regularizer):
    def on_model(self, model):
        for name, weight in model.named_parameters():
            self.register_shaped(f"first_{name.replace('.', '_')}", weight.detach().clone(), name)
        return model


def test_state_in_a_parameters_shape_is_a_buffer_with_the_parameters_name_beside_it():
    cocktail = Cocktail({"memory": Memory(), "other": L1()}, 0, "classification")
    model = cocktail.prepare(nn.Linear(3, 2))
    memory = cocktail.members["memory"]
    assert memory.shaped == {"first_weight": "weight", "first_bias": "bias"}
    assert torch.equal(memory.get_buffer("first_weight"), model.weight)
    assert cocktail.members["other"].shaped == {}
    twin = copy.deepcopy(cocktail).members["memory"]
    assert twin.shaped == memory.shaped
    assert twin.shaped is not memory.shaped
