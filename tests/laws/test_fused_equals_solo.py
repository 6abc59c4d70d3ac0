"""Law: jobs that differ only in numbers, trained as a pack, reach the weights that each reaches alone (float64)."""

from typing import Any

import fused_harness as fused
import laws_harness as harness
import pytest

from reglab.regularizers import EMA, MaxNorm, Regularizer
from reglab.training.experiment import Experiment

STRENGTHS = {
    "ema": (0.7, 0.9, 0.0),
    "max_norm": (0.6, 1.0, 0.3),
    "flooding": (1.0, 0.9, 0.0),
    # Weights that are crushed before a BatchNorm amplify rounding; gentler, the law still sees a hundred steps.
    "l1_subgradient": (0.005, 0.01, 0.0),
    "sam": (0.05, 0.1, 0.0),
}
MIXED = ("dropout", "l1", "weight_decay", "sam")
OPTIMIZERS: dict[str, list[dict[str, Any]]] = {
    # Each number is another in each member; a momentum of 0 beside others is still plain SGD.
    "SGD": [{"lr": 0.05}, {"lr": 0.02, "weight_decay": 0.1}, {"lr": 0.08}],
    "SGD, momentum": [{"lr": 0.03, "momentum": 0.9}, {"lr": 0.05}, {"lr": 0.02, "momentum": 0.5, "dampening": 0.3}],
    "SGD, nesterov": [
        {"lr": 0.03, "momentum": 0.9, "nesterov": True},
        {"lr": 0.02, "momentum": 0.6, "nesterov": True, "weight_decay": 0.05},
    ],
    "Adam": [{"lr": 0.01}, {"lr": 0.003, "weight_decay": 0.1, "eps": 1e-6}],
    "AdamW": [{"lr": 0.01, "weight_decay": 0.0}, {"lr": 0.003, "weight_decay": 0.3}],
    "AdamW, amsgrad": [{"lr": 0.01, "amsgrad": True}, {"lr": 0.02, "amsgrad": True, "eps": 1e-5}],
}


def regularizers(name: str, number: int) -> dict[str, Regularizer]:
    if name in ("none", "early_stopping"):  # patience counts epochs, which are not measured here
        return harness.members(name)
    gentle = harness.STRENGTHS.get(name)
    strengths = STRENGTHS.get(name, (0.05, 0.2, 0.0) if gentle is None else (gentle, 2 * gentle, 0.0))
    return harness.members(name, strength=strengths[number])


@pytest.mark.parametrize("name", harness.NAMES)
def test_every_regularizer_under_sgd_members_of_different_seeds(name: str) -> None:
    def make(number: int) -> Experiment:
        optimizer = {**fused.SGD, "lr": (0.05, 0.03, 0.04)[number]}
        return fused.job(regularizers(name, number), seed=number, optimizer=optimizer)

    pack = fused.assert_equals_solo(make, 3).pack
    assert pack.done() == 100


def test_units_of_transposed_convolutions_and_averaged_statistics() -> None:
    def make(number: int) -> Experiment:
        members = {"ema": EMA((0.6, 0.9)[number], warmup=(9, 1)[number]), "cap": MaxNorm((0.2, 0.4)[number])}
        return fused.job(members, seed=number, model=harness.transposed_model(number), epochs=8)

    pack = fused.assert_equals_solo(make, 2).pack
    weight = pack.stack.weights["model.up.weight"]  # [members, 2 groups of 2 inputs, 3 outputs of each, 2]
    norms = weight.reshape(2, 2, 2, 3, 2).square().sum((2, 4)).sqrt()
    assert norms.amax((1, 2)).tolist() == pytest.approx([0.2, 0.4])


@pytest.mark.parametrize("name", harness.NAMES)
def test_every_regularizer_under_adam_members_of_one_seed(name: str) -> None:
    def make(number: int) -> Experiment:
        optimizer = {**fused.ADAM, "lr": (0.01, 0.003)[number]}
        return fused.job(regularizers(name, number), seed=7, model=fused.net(number, bias=False), optimizer=optimizer)

    pack = fused.assert_equals_solo(make, 2).pack
    assert pack.train_rows.shared


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_every_optimizer_with_numbers_and_clipping_of_each_members_own(kind: str) -> None:
    # One cocktail of four methods, of which each member has one, and the first none: the others are neutral.
    def make(number: int) -> Experiment:
        mixture = {}
        for place, name in enumerate(MIXED, 1):
            mixture |= harness.members(name, strength={"sam": 0.05}.get(name, 0.1) if place == number else 0.0)
        settings = OPTIMIZERS[kind][number % len(OPTIMIZERS[kind])]
        optimizer = {"_target_": f"torch.optim.{kind.partition(',')[0]}", **settings}
        model = fused.net(number, bias=not kind.startswith("Adam"))
        return fused.job(
            mixture,
            seed=(0, 1, 1, 2, 3)[number],
            model=model,
            optimizer=optimizer,
            clip=(0.5, 1.0, 0.2, 9.0, 2.0)[number],
            epochs=10,
        )

    fused.assert_equals_solo(make, 5)
