"""Three small classifiers on rows that overfit them, and the laws that measures of the gap obey."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from reglab.measures.measure import Measure, Part
from reglab.measures.of_models import OfModels
from reglab.measures.sides import Side

ROWS, CLASSES = 90, 4


class WholeProbe(OfModels):
    """Models whose probe is the whole training part, or, with ``left``, a share of it."""

    left = 0.0

    def side(self, part: Part) -> Side:
        found = super().side(part)
        return found._replace(left=self.left) if part == "train" else found


def rows(task: str, seed: int, count: int = ROWS) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 5, generator=generator)
    if task == "multilabel":
        return inputs, (torch.rand(count, 3, generator=generator) < 0.4).float()
    classes = 2 if task == "binary" else CLASSES
    targets = torch.randint(0, classes, (count,), generator=generator)
    inputs[:, 0] += targets
    return inputs, targets.float() if task == "binary" else targets


def models(task: str, scale: float = 1.0) -> list[nn.Module]:
    outputs = {"binary": 1, "multilabel": 3, "ordinal": CLASSES - 1}.get(task, CLASSES)
    made: list[nn.Module] = []
    for seed in range(3):
        torch.manual_seed(seed)
        made.append(nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, outputs)))
        with torch.no_grad():
            made[-1][-1].weight.mul_(3 * scale)
    return made


def seen(task: str, given: Sequence[nn.Module] | None = None) -> WholeProbe:
    return WholeProbe(models(task) if given is None else given, rows(task, 1), rows(task, 2, 70), task)


def check_laws(measure: Measure, task: str) -> dict[str, Tensor]:
    """A pack of three has each model's numbers, and nothing else moves; return the pack's numbers."""
    each = models(task)
    before = [{name: value.clone() for name, value in model.state_dict().items()} for model in each]
    together = seen(task, each)
    together.side("train"), together.side("val")
    passes: list[int] = []
    hook = each[0].register_forward_hook(lambda *_: passes.append(1))
    random, state = torch.get_rng_state(), dict[str, Tensor]()
    numbers = measure.measure(together, state)
    hook.remove()
    assert (passes, state, measure.row_passes(ROWS)) == ([], {}, 0)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(value.shape == (3,) and not value.requires_grad for value in numbers.values())
    for member, model in enumerate(each):
        assert model.training
        assert all(torch.equal(value, before[member][name]) for name, value in model.state_dict().items())
        alone = measure.measure(seen(task, [model]), {})
        assert alone.keys() == numbers.keys()
        for name, value in alone.items():
            torch.testing.assert_close(numbers[name][member : member + 1], value, rtol=1e-5, atol=1e-7, equal_nan=True)
    return numbers
