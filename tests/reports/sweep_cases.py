"""A made-up sweep: none, l1, dropout, a cocktail and max_norm, three seeds each."""

import math

import numpy as np

from reglab.analysis.sweep_data import SweepData
from reglab.analysis.trial import Trial

STRENGTHS = {
    "l2": (1e-4, 1e-3, 1e-2, 1e-1),
    "l1": (1e-5, 1e-4, 1e-3, 1e-2),
    "dropout": (0.1, 0.3, 0.5, 0.7),
    "l1+dropout": (1e-5, 1e-4, 1e-3),
    "max_norm": (0.5, 1.0, 4.0),
}
EPOCHS = 60


def _outcome(block, index, seed):
    """Return final (training loss, validation loss, zeros): a U in validation loss."""
    jitter = 0.03 * math.sin(7.3 * seed + 3.1 * index + len(block))
    if block == "none":
        return 0.004, 0.62 + 2 * jitter, 0.0
    depth = {"l1": 0.30, "l2": 0.18, "dropout": 0.40, "l1+dropout": 0.41, "max_norm": 0.15}[block]
    train = 0.004 + 0.6 * index**3
    val = 0.62 - depth * math.sin(math.pi * min(1, index * 0.8)) + 0.25 * index**4 + jitter
    return train, val, (0.9 * index**1.2 if "l1" in block else 0.0)


def trial(block, strength, index, seed, /, **changes):
    train, val, zeros = _outcome(block, index, seed)
    score = 0.97 - 0.12 * val
    metrics = {
        "train/loss": train,
        "val/loss": val,
        "val/loss_se": 0.02,
        "gap/loss": val - train,
        "gap/loss_low": val - train - 0.04,
        "gap/loss_high": val - train + 0.05,
        "train/accuracy": 1 - 0.1 * train,
        "val/accuracy": score,
        "gap/accuracy": 1 - 0.1 * train - score,
        "weights/zeros": zeros,
    }
    params = {"seed": str(seed), "data.name": "digits"}
    fields = {
        "run_id": f"{block}-{strength}-{seed}",
        "block": block,
        "regularizer": block,
        "strength": strength,
        "stronger": -1 if block == "max_norm" else 1,
        "seed": seed,
        "metrics": metrics,
        "params": params if strength is None else {**params, f"regularizer.{block}.strength": str(strength)},
        "status": "FINISHED",
        "overrides": ("experiment=overfit", f"regularizer=[{block.replace('+', ',')}]", f"seed={seed}"),
    }
    return Trial(**{**fields, **changes})


def trials():
    actual = [trial("none", None, 0.0, seed) for seed in range(3)]
    for block, strengths in STRENGTHS.items():
        order = reversed(strengths) if block == "max_norm" else strengths
        for index, strength in enumerate(order, start=1):
            actual += [trial(block, strength, index / len(strengths), seed) for seed in range(3)]
    failed = {"status": "FAILED", "metrics": {}, "message": "diverged at step 12 <nan>: lower optimizer.lr"}
    return [*actual[:-1], trial("max_norm", 0.5, 1.0, 2, **failed)]


def histories(runs):
    """Return curves that end at each run's own values."""
    actual = {}
    for run in runs:
        if not run.metrics:
            continue
        noise = np.random.default_rng(run.seed)
        metrics = {}
        for key in ("train/loss", "val/loss", "train/accuracy", "val/accuracy"):
            end = run.metrics[key]
            start = 2.3 if "loss" in key else 0.1
            dip = -0.25 * end if key == "val/loss" else 0.0
            metrics[key] = [
                (
                    e,
                    end
                    + (start - end) * math.exp(-e / 4)
                    + dip * math.exp(-(((e - 14) / 9) ** 2))
                    + 0.004 * noise.normal(),
                )
                for e in range(EPOCHS + 1)
            ]
        for name, flip in (("loss", 1), ("accuracy", -1)):
            pairs = zip(metrics[f"val/{name}"], metrics[f"train/{name}"], strict=True)
            metrics[f"gap/{name}"] = [(e, flip * (val - train)) for (e, val), (_, train) in pairs]
        actual[run.run_id] = metrics
    return actual


def weights():
    draw = np.random.default_rng(0)
    dense = draw.normal(0, 0.12, 20_000)
    sparse = np.where(draw.random(20_000) < 0.84, 0.0, draw.laplace(0, 0.09, 20_000))
    return {"none": dense, "l1 0.001": sparse, "dropout 0.5": draw.normal(0, 0.08, 20_000)}


def sweep(blocks=("none", *STRENGTHS)):
    runs = [run for run in trials() if run.block in blocks]
    return SweepData(
        name="overfit",
        trials=tuple(runs),
        score="accuracy",
        provenance={"git commit": "0123abc", "data": "digits, digest 9f2c<b>"},
        command="reglab train -m experiment=overfit",
        histories=histories(runs),
        weights=weights(),
    )
