"""The gradient of a step whose rows are taken in several turns is that of all its rows at once."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import laws_harness as harness
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from reglab.distributed.parameters import LocalParameters
from reglab.measures import example_losses
from reglab.regularizers import L2, SAM, Batch, Cocktail, Flooding, Objective, Outcome, Regularizer
from reglab.training.gradient import Gradient, Means, Microbatch

ROWS = 10


class Power(Regularizer):
    """Trains on a power of the mean loss, so that a wrong mean shows in the size of the
    gradient.
    """

    def __init__(self, power: float) -> None:
        super().__init__()
        self.power = power

    def on_objective(self, objective: Objective) -> Objective:
        def raised(model: nn.Module, batch: Batch) -> Outcome:
            outcome = objective(model, batch)
            loss = self.mean(outcome.loss)
            return outcome.plus(self.name, loss**self.power - loss)

        return raised


def batch() -> tuple[Tensor, Tensor]:
    train = harness.blobs(torch.float64).train
    return train.inputs[:ROWS], train.targets[:ROWS]


def losses(model: nn.Module) -> Tensor:
    inputs, targets = batch()
    return functional.cross_entropy(model(inputs), targets, reduction="none")


def parts(microbatches: int) -> list[Tensor]:
    """Return the rows of each microbatch: of different sizes."""
    return list(torch.arange(ROWS).tensor_split({1: [], 2: [6], 3: [2, 6]}[microbatches]))


def gradient(model: nn.Module, members: dict[str, Regularizer]) -> Gradient:
    """Return a gradient of our own, without Lightning and without other ranks."""
    cocktail, means = Cocktail(members, 0, "classification"), Means(1)
    cocktail.bind(means)
    objective = cocktail.objective(lambda outputs, targets: example_losses(outputs, targets, "classification"))
    return Gradient(
        LocalParameters(model), objective, cocktail, means, nullcontext, lambda loss, last: loss.backward(), rank=0
    )


def taken(microbatches: int) -> list[Microbatch]:
    """Return the rows of a step, each turn's weighted so that the mean of the turns' means is that
    of all rows.
    """
    inputs, targets = batch()
    return [
        Microbatch(
            Batch(
                inputs[rows],
                [(torch.tensor(len(rows) * microbatches / ROWS, dtype=torch.float64), targets[rows])],
                rows,
            )
        )
        for rows in parts(microbatches)
    ]


def model() -> nn.Module:
    return harness.small_model(torch.float64, norm=False).eval()  # its dropout would draw from torch's generator


def level(share: float) -> float:
    """Return a flood level near the mean of all losses, on either side of which some turn's own
    mean is by far.
    """
    return float(losses(model()).detach().mean()) * share


Case = tuple[Callable[[], dict[str, Regularizer]], Callable[[Tensor], Tensor]]
NESTED: dict[str, Case] = {
    "powers": (lambda: {"first": Power(1.5), "second": Power(3.0)}, lambda loss: (loss**1.5) ** 3),
    "one": (lambda: {"first": Power(2.0)}, torch.square),
    # |L - a| + a = 1.02 L, which is below 1.03 L: the gradient turns round twice
    "floodings": (
        lambda: {"first": Flooding(level(1.01)), "second": Flooding(level(1.03))},
        lambda loss: ((loss - level(1.01)).abs() + level(1.01) - level(1.03)).abs() + level(1.03),
    ),
    "above and below": (
        lambda: {"first": Flooding(level(0.99)), "second": Flooding(level(1.01))},
        lambda loss: ((loss - level(0.99)).abs() + level(0.99) - level(1.01)).abs() + level(1.01),
    ),
}


@pytest.mark.parametrize("microbatches", [1, 2, 3])
@pytest.mark.parametrize("case", NESTED)
def test_means_within_means_are_those_of_all_rows(case: str, microbatches: int) -> None:
    members, closed = NESTED[case]
    actual, whole = model(), model()
    local = losses(whole)
    of_all = local.detach().mean()
    means = [local.detach()[rows].mean() for rows in parts(microbatches)]
    assert microbatches == 1 or min(means) < 0.98 * of_all < 1.04 * of_all < max(means)  # microbatches differ
    objective = closed(local.mean())
    objective.backward()
    computed = gradient(actual, members())
    for step in range(2):  # the first step finds out whether a member asks for means
        computed.begin(taken(microbatches), step)
        outcome = computed.compute()
        for name, weight in whole.named_parameters():
            torch.testing.assert_close(actual.get_parameter(name).grad, weight.grad, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(outcome.loss.detach(), objective.detach(), rtol=1e-13, atol=0, check_dtype=False)
        torch.testing.assert_close(outcome.terms["task"].detach(), of_all, rtol=1e-13, atol=0, check_dtype=False)


@pytest.mark.parametrize("microbatches", [1, 3])
def test_a_penalty_counts_once_however_many_microbatches_there_are(microbatches: int) -> None:
    actual, whole = model(), model()
    penalty = torch.stack([0.3 / 2 * weight.square().sum() for weight in whole.parameters() if weight.dim() == 2]).sum()
    (losses(whole).mean() + penalty).backward()
    computed = gradient(actual, {"l2": L2(0.3)})
    computed.begin(taken(microbatches), 0)
    outcome = computed.compute()
    torch.testing.assert_close(outcome.terms["l2"], penalty, rtol=1e-13, atol=0)
    for name, weight in whole.named_parameters():
        torch.testing.assert_close(actual.get_parameter(name).grad, weight.grad, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("members", [{}, {"powers": Power(2.0)}], ids=["plain", "with means"])
def test_statistics_move_once_for_each_turn_and_not_in_a_second_gradient(members: Any) -> None:
    actual, wanted = nn.BatchNorm1d(harness.FEATURES).double(), nn.BatchNorm1d(harness.FEATURES).double()
    for rows in parts(3):
        wanted(batch()[0][rows])
    computed = gradient(nn.Sequential(actual, nn.Linear(harness.FEATURES, harness.CLASSES).double()), members)
    computed.begin(taken(3), 0)
    computed.compute_at()
    assert dict(actual.named_buffers()).keys() == {"running_mean", "running_var", "num_batches_tracked"}
    harness.assert_same_bits(dict(actual.named_buffers()), dict(wanted.named_buffers()))
    computed.compute_at({"1.weight": torch.ones(harness.CLASSES, harness.FEATURES).double()})
    harness.assert_same_bits(dict(actual.named_buffers()), dict(wanted.named_buffers()))


@pytest.mark.parametrize(
    "members",
    [
        dict,
        lambda: {"l2": L2(0.05)},
        lambda: {"sam": SAM(0.1)},
        lambda: {"first": Flooding(1.0), "second": Power(2.0)},
        lambda: harness.members("mixup"),
        lambda: harness.members("dropout"),
    ],
    ids=["none", "l2", "sam", "means", "mixup", "dropout"],
)
def test_training_in_turns_equals_training_on_the_whole_batch(members: Callable[[], dict[str, Regularizer]]) -> None:
    """The last step of an epoch has 14 rows, which turns do not share out evenly."""
    microbatches, whole = (
        harness.trained(
            harness.experiment(
                members(),
                model=harness.small_model(torch.float64, norm=False),
                batch_size=size,
                trainer={"precision": "64-true", "accumulate_grad_batches": accumulate},
            )
        )
        for size, accumulate in ((5, 3), (15, 1))
    )
    torch.testing.assert_close(microbatches, whole, rtol=1e-12, atol=1e-12)
