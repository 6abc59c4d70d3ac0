"""Full-batch proximal steps at the end: from the noise of minibatches to the solution, resumed to
the same bits.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import laws_harness as harness
import pytest
import sklearn.linear_model
import torch
from torch import Tensor, nn

from reglab.config.fingerprint import fingerprint
from reglab.core.errors import UserError
from reglab.data import DataSet, Part
from reglab.regularizers import EMA, L1, L2, Cocktail, Dropout, ElasticNet, Mixup, Regularizer, WeightDecay
from reglab.tracking.journal import Journal
from reglab.training.check import check_experiment
from reglab.training.experiment import Experiment
from reglab.training.fused.member import why_solo

FEATURES, ROWS = 30, 120


def regression() -> DataSet:
    generator = torch.Generator().manual_seed(3)
    design = torch.randn(2 * ROWS, FEATURES, generator=generator, dtype=torch.float64)
    design[:, 1] += 2 * design[:, 0]  # a condition number that plain steps feel
    noise = torch.randn(2 * ROWS, generator=generator, dtype=torch.float64)
    target = design[:, :3] @ torch.tensor([2.0, -1.5, 1.0], dtype=torch.float64) + 0.5 * noise
    index, even, clean = torch.arange(2 * ROWS), torch.ones(2 * ROWS), torch.zeros(2 * ROWS, dtype=torch.bool)
    train, val = (
        Part(design[rows], target[rows], index[rows], even[rows], clean[rows], target[rows])
        for rows in (slice(0, ROWS), slice(ROWS, None))
    )
    names = tuple(f"x{column}" for column in range(FEATURES))
    return DataSet("lasso", "regression", train, val, val, 1, (FEATURES,), names, ("y",), "1" * 64, {})


def linear() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Linear(FEATURES, 1, bias=False, dtype=torch.float64)


def job(
    steps: int, optimizer: str = "SGD", members: dict[str, Regularizer] | None = None, **options: Any
) -> Experiment:
    made = harness.experiment(
        {},
        model=linear(),
        optimizer={"_target_": f"torch.optim.{optimizer}", "lr": 0.01, **options},
        epochs=4,
        batch_size=10,
        trainer={"precision": "64-true", "polish_steps": steps},
    )
    cocktail = Cocktail(members or {"l1": L1(0.3)}, 0, "regression")
    return replace(made, cocktail=cocktail, data=regression())


def lasso(alpha: float) -> Tensor:
    train = regression().train
    solver = sklearn.linear_model.Lasso(alpha=alpha, fit_intercept=False, tol=1e-14, max_iter=100_000)
    return torch.from_numpy(solver.fit(train.inputs.numpy(), train.targets.numpy()).coef_)


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_from_minibatches_to_the_lasso_with_its_support(optimizer: str) -> None:
    expected = lasso(0.15)  # the loss is a squared error that is not halved
    noisy = harness.trained(job(0, optimizer))["model.weight"][0]
    assert int((noisy == 0).sum()) < int((expected == 0).sum()) - 3
    polished = harness.trained(job(200, optimizer))["model.weight"][0]
    torch.testing.assert_close(polished, expected, atol=1e-9, rtol=0)
    assert torch.equal(polished == 0, expected == 0)


def test_with_a_penalty_in_the_loss_it_is_the_elastic_net() -> None:
    train = regression().train
    solver = sklearn.linear_model.ElasticNet(alpha=0.2, l1_ratio=0.5, fit_intercept=False, tol=1e-14, max_iter=100_000)
    expected = torch.from_numpy(solver.fit(train.inputs.numpy(), train.targets.numpy()).coef_)
    for members in ({"net": ElasticNet(0.4, 0.5)}, {"l1": L1(0.2), "l2": L2(0.2)}):
        actual = harness.trained(job(200, members=members))["model.weight"][0]
        torch.testing.assert_close(actual, expected, atol=1e-9, rtol=0)


def test_the_measurement_sees_it_and_the_run_says_so(tmp_path: Path) -> None:
    harness.trained(job(0), tmp_path / "without")
    harness.trained(job(200), tmp_path / "with")
    before, after = (harness.rows_of(tmp_path / name) for name in ("without", "with"))
    assert all(before[key] == after[key] for key in before if key[1] < 4)
    assert after["weights/all/zeros", 4] > before["weights/all/zeros", 4]
    lines = (tmp_path / "with" / "journal.jsonl").read_text()
    assert "full-batch proximal steps, loss with penalties" in lines
    assert Journal(tmp_path / "with" / "journal.jsonl").rows()


def test_a_net_gets_no_worse_and_no_steps_change_nothing() -> None:
    def small(steps: int) -> Experiment:
        trainer = {"polish_steps": steps}
        return harness.experiment({"l1": L1(0.01)}, trainer=trainer, batch_size=12)

    harness.assert_same_bits(
        harness.trained(small(0)), harness.trained(harness.experiment({"l1": L1(0.01)}, batch_size=12))
    )
    losses = {}
    for steps in (0, 30):
        made = small(steps)
        harness.trained(made)
        model, train = made.model.eval(), made.data.train
        loss = nn.functional.cross_entropy(model(train.inputs), train.targets)
        penalty = sum(weight.abs().sum() for weight in model.parameters() if weight.ndim == 2)
        losses[steps] = float((loss + 0.01 * penalty).detach())
    assert losses[30] < losses[0]


@pytest.mark.parametrize("step", [6, 48])  # inside of the first of 4 epochs of 12 steps, and the last step of all
def test_resumed_equals_uninterrupted(step: int, tmp_path: Path) -> None:
    whole = harness.trained(job(50), tmp_path / "whole")
    resumed = harness.interrupted_and_resumed(lambda: job(50), step, tmp_path / "cut")
    harness.assert_same_bits(whole, resumed)
    assert harness.rows_of(tmp_path / "whole") == harness.rows_of(tmp_path / "cut")


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda: job(9, members={"l1": L1(0.1), "ema": EMA(0.9)}), "ema is none; leave"),
        (lambda: job(9, members={"l1": L1(0.1), "decay": WeightDecay(0.1)}), "decay is none; leave"),
        (lambda: job(9, members={"l1": L1(0.1), "drop": Dropout(0.1)}), "drop is none; leave"),
        (lambda: job(9, members={"l1": L1(0.1), "mixup": Mixup(0.1)}), "mixup is none; leave"),
        (lambda: job(9, members={"l2": L2(0.1)}), "is for proximal methods"),
        (lambda: job(9, weight_decay=0.1), "ignores optimizer.weight_decay"),
        (lambda: job(-1), "polish_steps must be an integer >= 0, got -1"),
    ],
)
def test_what_has_no_such_objective_is_refused(change: Callable[[], Experiment], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_experiment(change())


def test_it_trains_alone_and_the_default_changes_no_fingerprint() -> None:
    assert "polish_steps" in why_solo(job(9))
    config = {"data": {}, "trainer": {"max_epochs": 3}}
    same = {"data": {}, "trainer": {"max_epochs": 3, "polish_steps": 0}}
    other = {"data": {}, "trainer": {"max_epochs": 3, "polish_steps": 9}}
    assert fingerprint(config, "d") == fingerprint(same, "d") != fingerprint(other, "d")
