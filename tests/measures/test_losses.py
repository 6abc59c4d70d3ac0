import math

import pytest
import torch

from reglab.core.errors import UserError
from reglab.measures import example_losses

ROWS = 5


def by_hand(outputs, targets, task):
    """One example's loss, from its definition, in Python floats."""
    if task == "classification":
        values = outputs.tolist()
        return math.log(sum(math.exp(value) for value in values)) - values[int(targets)]
    pairs = list(zip(outputs.flatten().tolist(), targets.flatten().tolist(), strict=True))
    if task == "regression":
        return sum((output - target) ** 2 for output, target in pairs) / len(pairs)
    chances = [(1 / (1 + math.exp(-output)), target) for output, target in pairs]
    return sum(-math.log(chance if target else 1 - chance) for chance, target in chances) / len(pairs)


def case(task, columns, trailing=True, dtype=torch.float64, members=()):
    generator = torch.Generator().manual_seed(1)
    shape = (*members, ROWS, columns) if trailing else (*members, ROWS)
    outputs = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    if task == "classification":
        return outputs, torch.randint(0, columns, (ROWS,), generator=generator)
    values = torch.randn(ROWS, columns, generator=generator)
    values = values if task == "regression" else (values > 0).float()
    return outputs, values if task == "multilabel" or columns > 1 else values.squeeze(1)


CASES = [
    ("classification", 3, True),
    ("binary", 1, True),
    ("binary", 1, False),
    ("multilabel", 4, True),
    ("multilabel", 1, True),
    ("regression", 1, True),
    ("regression", 1, False),
    ("regression", 3, True),
]


@pytest.mark.parametrize("task, columns, trailing", CASES)
def test_equals_the_definition_example_by_example(task, columns, trailing):
    outputs, targets = case(task, columns, trailing)
    expected = [by_hand(output, target, task) for output, target in zip(outputs, targets, strict=True)]
    losses = example_losses(outputs, targets, task)
    torch.testing.assert_close(losses, torch.tensor(expected, dtype=torch.float64), atol=1e-12, rtol=0)


@pytest.mark.parametrize("task, columns, trailing", CASES)
def test_members_are_measured_each_by_itself(task, columns, trailing):
    outputs, targets = case(task, columns, trailing, members=(2, 3))
    losses = example_losses(outputs, targets, task)
    assert losses.shape == (2, 3, ROWS)
    torch.testing.assert_close(losses[1, 2], example_losses(outputs[1, 2], targets, task))


def test_half_precision_outputs_give_float32_losses():
    outputs, targets = case("classification", 3, dtype=torch.bfloat16)
    losses = example_losses(outputs, targets, "classification")
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, example_losses(outputs.float(), targets, "classification"))


@pytest.mark.parametrize(
    "outputs, targets, task",
    [
        ((5,), (5,), "classification"),
        ((4, 3), (5,), "classification"),
        ((5, 2), (5,), "binary"),
        ((5, 5), (5, 4), "multilabel"),
        ((5, 2), (5,), "regression"),
        ((4, 1), (5,), "regression"),
    ],
)
def test_shapes_that_do_not_fit_are_shown_and_never_broadcast(outputs, targets, task):
    with pytest.raises(UserError, match=rf"{task}: outputs of shape .*{outputs[-1]}\] do not fit"):
        example_losses(torch.zeros(outputs), torch.zeros(targets, dtype=torch.int64), task)


def test_an_unknown_task_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'regression'"):
        example_losses(torch.zeros(2, 1), torch.zeros(2), "regresion")
