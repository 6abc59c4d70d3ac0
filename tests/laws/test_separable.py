"""The law of sharded training: on parts of the weights, every method does what it does on the whole."""

import copy
from collections.abc import Mapping
from typing import Any

import laws_harness as harness
import pytest
import torch
from torch import Tensor, nn

from reglab.regularizers import Cocktail, Outcome, overrides
from shards import Parts, Ranks, cut, cut_cocktail, cut_model, joined


def having(*hooks: str) -> list[str]:
    """Return the methods that do something in one of the hooks."""
    return [
        name
        for name in harness.NAMES
        if any(overrides(member, hook) for member in harness.members(name).values() for hook in hooks)
    ]


def penalizing() -> list[str]:
    return [name for name in having("penalty") if all(member.separable for member in harness.members(name).values())]


in_parts = pytest.mark.parametrize("parts", [2, 3, 5])  # of 8 and of 3 rows: with 5, and of 3 rows with 2, not equally


def prepared(name: str) -> tuple[Cocktail, nn.Module]:
    cocktail = Cocktail(harness.members(name), 0, "classification")
    return cocktail, cocktail.prepare(harness.small_model(torch.float64))


def noise(model: nn.Module, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {name: weight.shape for name, weight in model.named_parameters()}
    return {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}


@in_parts
@pytest.mark.parametrize("name", penalizing())
def test_a_separable_penalty_is_the_sum_of_those_of_the_parts(name: str, parts: int) -> None:
    cocktail, model = prepared(name)
    weights = dict(model.named_parameters())
    whole = cocktail.penalties(weights, separable=True)
    assert whole
    assert all(float(penalty.detach()) > 0 for penalty in whole.values())
    found = torch.autograd.grad(sum(whole.values()), list(weights.values()), allow_unused=True)
    slopes = dict(zip(weights, found, strict=True))
    added = dict.fromkeys(whole, 0.0)
    for rank, part in enumerate(cut_model(model, parts)):
        own = {key: weight.requires_grad_() for key, weight in part.named_parameters()}
        penalties = cocktail.penalties(own, separable=True)
        added = {key: added[key] + float(penalty.detach()) for key, penalty in penalties.items()}
        grads = torch.autograd.grad(sum(penalties.values()), list(own.values()), allow_unused=True)
        for key, slope in zip(own, grads, strict=True):
            assert (slope is None) == (slopes[key] is None)
            if slope is not None:
                torch.testing.assert_close(slope, cut(slopes[key], parts)[rank], rtol=1e-12, atol=0)
    assert added == pytest.approx({key: float(penalty.detach()) for key, penalty in whole.items()}, rel=1e-12)


class Trained:
    """A cocktail beside its weights: a step is a shift of the weights between the hooks."""

    def __init__(self, cocktail: Cocktail, model: Any) -> None:
        self.cocktail, self.model = cocktail, model

    def step(self, shift: Mapping[str, Tensor], sizes: Mapping[str, Tensor]) -> None:
        self.cocktail.before_step(self.model, {name: torch.tensor(0.1, dtype=torch.float64) for name in shift})
        with torch.no_grad():
            for name, weight in self.model.named_parameters():
                weight.add_(shift[name])
        self.cocktail.after_step(self.model, sizes)
        self.cocktail.keys.step.add_(1)

    def weights(self) -> Parts:
        return Parts({name: weight.detach().clone() for name, weight in self.model.named_parameters()})

    def judged(self) -> Parts:
        with self.cocktail.evaluating(self.model):
            return self.weights()


@in_parts
@pytest.mark.parametrize("name", having("before_step", "on_step", "evaluating"))
def test_steps_and_averages_of_the_parts_are_those_of_the_whole(name: str, parts: int) -> None:
    cocktail, model = prepared(name)
    ranks, before = Ranks(parts), joined(cut_model(model, 1))
    cocktails, models = cut_cocktail(cocktail, parts, ranks.add), cut_model(model, parts)
    shards = [Trained(*own) for own in zip(cocktails, models, strict=True)]
    whole = Trained(cocktail, model)
    moves = [(noise(model, seed), {key: 0.1 * it.abs() for key, it in noise(model, 9).items()}) for seed in range(3)]

    def run(rank: int) -> tuple[Parts, Parts]:
        for shift, sizes in moves:
            own = [{key: cut(tensor, parts)[rank] for key, tensor in each.items()} for each in (shift, sizes)]
            shards[rank].step(*own)
        return shards[rank].weights(), shards[rank].judged()

    weights, judged = zip(*ranks.run(run), strict=True)
    for shift, sizes in moves:
        whole.step(shift, sizes)
    alone = {key: tensor + sum(shift[key] for shift, _ in moves) for key, tensor in before.items()}
    assert any(not torch.allclose(alone[key], it) for key, it in whole.judged().named_parameters())  # it does something
    for found, expected in ((weights, whole.weights()), (judged, whole.judged())):
        torch.testing.assert_close(joined(list(found)), dict(expected.named_parameters()), rtol=1e-12, atol=1e-14)
    for own in shards:
        for key, buffer in cocktail.named_buffers():
            if key.rpartition(".")[2] not in {slot for _, it in cocktail.named_regularizers() for slot in it.shaped}:
                assert torch.equal(own.cocktail.get_buffer(key), buffer), key


@in_parts
@pytest.mark.parametrize("name", having("on_gradient"))
def test_the_gradient_of_the_parts_is_that_of_the_whole(name: str, parts: int) -> None:
    cocktail = Cocktail(harness.members(name), 0, "classification")
    model = cocktail.prepare(harness.small_model(torch.float64, norm=False)).eval()
    inputs, targets = harness.blobs(torch.float64).train.inputs, harness.blobs().train.targets
    weights = dict(model.named_parameters())

    def slopes(model: nn.Module, offset: Mapping[str, Tensor] | None = None) -> tuple[dict[str, Tensor], Outcome]:
        own = {key: (weight + (offset or {}).get(key, 0)).detach().requires_grad_() for key, weight in weights.items()}
        outputs = torch.func.functional_call(model, own, (inputs,))
        loss = nn.functional.cross_entropy(outputs, targets)
        found = torch.autograd.grad(loss, list(own.values()))
        return dict(zip(own, found, strict=True)), Outcome({"task": loss.detach()}, outputs.detach())

    ranks = Ranks(parts)
    cocktails = cut_cocktail(cocktail, parts, ranks.add)
    models = [copy.deepcopy(model) for _ in range(parts)]  # functional_call changes the module while it runs

    def run(rank: int) -> Parts:
        def own(offset: Mapping[str, Tensor] | None = None) -> tuple[dict[str, Tensor], Outcome]:
            found, outcome = slopes(models[rank], offset and {key: ranks.gather(offset[key]) for key in weights})
            return {key: cut(slope, parts)[rank] for key, slope in found.items()}, outcome

        return Parts(cocktails[rank].gradient(own)()[0])

    expected, plain = cocktail.gradient(lambda offset=None: slopes(model, offset))()[0], slopes(model)[0]
    assert any(not torch.allclose(expected[key], plain[key]) for key in plain)  # it does something
    torch.testing.assert_close(joined(ranks.run(run)), expected, rtol=1e-12, atol=1e-14)
