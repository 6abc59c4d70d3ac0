"""Outputs and targets of each task, in float64."""

import torch
from torch import Tensor

ROWS = 60


def case(task: str, rows: int = ROWS) -> tuple[Tensor, Tensor]:
    """Return a model's outputs, better than chance, and the targets."""
    generator = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def classes(count: int, *shape: int) -> Tensor:
        return torch.randint(0, count, shape, generator=generator)

    if task == "classification":
        targets = classes(4, rows)
        return torch.nn.functional.one_hot(targets, 4) + normal(rows, 4), targets
    if task == "regression":
        targets = normal(rows)
        return (targets + 0.4 * normal(rows)).unsqueeze(-1), targets
    hidden = normal(rows, 3 if task == "multilabel" else 1)
    return hidden + 0.8 * normal(*hidden.shape), (hidden > 0.3).double().squeeze(-1)
