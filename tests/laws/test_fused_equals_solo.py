"""Law: members that differ only in numbers, stacked and vmapped, train to the weights that each reaches alone."""

import laws_harness as harness
import pytest
import torch
from fused_reference import Member, train_fused
from torch import Tensor

from reglab.regularizers import Cocktail
from reglab.training.solo import Solo

STEPS_AN_EPOCH, EPOCHS, LR = 4, 25, 0.05
SGD = {"_target_": "torch.optim.SGD", "lr": LR}
STRENGTHS = {
    "ema": (0.7, 0.9, 0.0),
    "max_norm": (0.6, 1.0, 0.3),
    "flooding": (1.0, 0.9, 0.0),
    "early_stopping": (100, 200, 300),
    # Weights that are crushed before a BatchNorm amplify rounding; gentler, the law still sees a hundred steps.
    "l1_subgradient": (0.005, 0.01, 0.0),
    "sam": (0.05, 0.1, 0.0),
}


def solo(name: str, strength: float, seed: int) -> harness.Experiment:
    return harness.experiment(
        changed(name, strength),
        model=harness.small_model(torch.float64, seed),
        optimizer=SGD,
        epochs=EPOCHS,
        batch_size=11,
        steps_per_batch=4,
        seed=seed,
        trainer={"precision": "64-true"},
    )


def changed(name: str, strength: float):
    key = "patience" if name == "early_stopping" else "strength"
    return {} if name == "none" else harness.members(name, **{key: strength})


def batches(seeds: tuple[int, ...]) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return what the solo engine would see, stacked: every member has its own order."""
    part = harness.blobs().train
    steps = []
    for epoch in range(EPOCHS):
        orders = []
        for seed in seeds:
            job = harness.experiment({}, batch_size=11, seed=seed)
            module = Solo(job.model, job.cocktail, part, "classification", job.recipe)
            module.cocktail.keys.step.fill_(epoch * STEPS_AN_EPOCH)
            orders.append([rows for chunk in module.loader() for rows in chunk])
        for rows in zip(*orders, strict=True):
            chosen = torch.stack(rows)
            steps.append((part.inputs[chosen].double(), part.targets[chosen], part.index[chosen]))
    return steps


@pytest.mark.parametrize("name", harness.NAMES)
def test_fused_equals_solo_within_rounding_after_100_steps(name: str) -> None:
    seeds, strengths = (0, 1, 2), STRENGTHS.get(name, (0.05, 0.2, 0.0))
    alone = [harness.trained(solo(name, strength, seed)) for strength, seed in zip(strengths, seeds, strict=True)]
    members = [
        Member(harness.small_model(torch.float64, seed), Cocktail(changed(name, strength), seed, "classification"))
        for strength, seed in zip(strengths, seeds, strict=True)
    ]
    steps = batches(seeds)
    assert len(steps) == 100
    together = train_fused(members, steps, LR)
    for i, state in enumerate(alone):
        for key, value in state.items():
            if "waited" in key or "best" in key:
                continue  # of validation, which this reference does not do
            largest = value.abs().max().clamp(min=1e-300)
            assert (together[key][i] - value).abs().max() <= 1e-8 * largest, key
