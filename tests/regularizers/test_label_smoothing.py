import pytest
import torch
from torch import nn
from torch.nn import functional

from reglab.core.errors import UserError
from reglab.measures import example_losses
from reglab.regularizers import Batch, Cocktail, LabelSmoothing, Mixup

ROWS, CLASSES = 7, 4
GENERATOR = torch.Generator().manual_seed(0)
LOGITS = 2 * torch.randn(ROWS, CLASSES, generator=GENERATOR, dtype=torch.float64)
CLASS = torch.randint(0, CLASSES, (ROWS,), generator=GENERATOR)
BITS = torch.randint(0, 2, (ROWS, CLASSES), generator=GENERATOR).double()
WEIGHTS = torch.rand(ROWS, generator=GENERATOR, dtype=torch.float64) * 2


def smoothed(strength, task, logits, targets, weight, others=()):
    """Return the terms of one step on a model that says ``logits``, and the gradient of the loss by
    them.
    """
    cocktail = Cocktail({**dict(others), "smoothing": LabelSmoothing(strength)}, 0, task)
    objective = cocktail.objective(lambda outputs, target: example_losses(outputs, target, task))
    logits = logits.clone().requires_grad_()
    outcome = objective(nn.Identity(), Batch(logits, [(weight, targets)], torch.arange(len(logits))))
    return outcome, torch.autograd.grad(outcome.loss, logits)[0]


def assert_same(actual, expected_loss, logits):
    outcome, gradient = actual
    reference = logits.clone().requires_grad_()
    loss = expected_loss(reference)
    torch.testing.assert_close(outcome.loss.detach(), loss.detach(), atol=1e-12, rtol=0)
    torch.testing.assert_close(gradient, torch.autograd.grad(loss, reference)[0], atol=1e-12, rtol=0)


@pytest.mark.parametrize("strength", [0.0, 0.1, 0.7, 1.0])
@pytest.mark.parametrize("weight", [torch.ones((), dtype=torch.float64), WEIGHTS], ids=["even", "weighted"])
def test_classification_equals_cross_entropy_of_torch(strength, weight):
    def expected(logits):
        each = functional.cross_entropy(logits, CLASS, reduction="none", label_smoothing=strength)
        return (weight * each).mean()

    assert_same(smoothed(strength, "classification", LOGITS, CLASS, weight), expected, LOGITS)


@pytest.mark.parametrize("strength", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("weight", [torch.ones((), dtype=torch.float64), WEIGHTS], ids=["even", "weighted"])
@pytest.mark.parametrize("column", [True, False], ids=["rows x 1", "rows"])
def test_binary_equals_the_loss_against_smoothed_targets(strength, weight, column):
    logits = LOGITS[:, :1] if column else LOGITS[:, 0]
    targets = BITS[:, 0]

    def expected(logits):
        soft = targets * (1 - strength) + strength / 2
        each = functional.binary_cross_entropy_with_logits(logits.reshape(ROWS), soft, reduction="none")
        return (weight * each).mean()

    assert_same(smoothed(strength, "binary", logits, targets, weight), expected, logits)


@pytest.mark.parametrize("strength", [0.0, 0.2, 1.0])
def test_multilabel_equals_the_loss_against_smoothed_targets(strength):
    def expected(logits):
        soft = BITS * (1 - strength) + strength / 2
        return functional.binary_cross_entropy_with_logits(logits, soft)

    actual = smoothed(strength, "multilabel", LOGITS, BITS, torch.ones((), dtype=torch.float64))
    assert_same(actual, expected, LOGITS)


def test_the_data_loss_is_reported_without_smoothing():
    outcome, _ = smoothed(0.3, "classification", LOGITS, CLASS, torch.ones(()))
    assert set(outcome.terms) == {"task", "smoothing"}
    torch.testing.assert_close(outcome.terms["task"].detach(), functional.cross_entropy(LOGITS, CLASS))


def test_together_with_mixup_it_smooths_the_mixed_target():
    """A row at a time, whatever the nesting: the smoothed loss is linear in the target."""
    mixed_inside = smoothed(0.3, "classification", LOGITS[:2], CLASS[:2], torch.ones(()), {"mixup": Mixup(1.0)})[0]
    cocktail = Cocktail({"smoothing": LabelSmoothing(0.3), "mixup": Mixup(1.0)}, 0, "classification")
    objective = cocktail.objective(lambda outputs, target: example_losses(outputs, target, "classification"))
    batch = Batch(LOGITS[:2], [(torch.ones(()), CLASS[:2])], torch.arange(2))
    mixed_outside = objective(nn.Identity(), batch)
    torch.testing.assert_close(mixed_inside.loss.detach(), mixed_outside.loss, atol=1e-12, rtol=0)


def test_together_with_mixup_example_weights_are_mixed_in_either_nesting():
    weight = WEIGHTS[:2]
    inside = smoothed(0.3, "classification", LOGITS[:2], CLASS[:2], weight, {"mixup": Mixup(1.0)})[0]
    cocktail = Cocktail({"smoothing": LabelSmoothing(0.3), "mixup": Mixup(1.0)}, 0, "classification")
    objective = cocktail.objective(lambda outputs, target: example_losses(outputs, target, "classification"))
    outside = objective(nn.Identity(), Batch(LOGITS[:2], [(weight, CLASS[:2])], torch.arange(2)))
    torch.testing.assert_close(inside.loss.detach(), outside.loss, atol=1e-12, rtol=0)


def test_regression_is_refused():
    with pytest.raises(UserError, match="does not fit a regression task"):
        Cocktail({"label_smoothing": LabelSmoothing(0.1)}, 0, "regression")


@pytest.mark.parametrize("strength", [-0.1, 1.1])
def test_a_share_outside_zero_to_one_is_refused(strength):
    with pytest.raises(ValueError, match="strength must be finite and >= 0 and <= 1"):
        LabelSmoothing(strength)
