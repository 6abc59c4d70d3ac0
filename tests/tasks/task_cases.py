"""Outputs and targets of each task, in float64."""

import torch
from torch import Tensor

ROWS = 60
MULTI = "multi(price=regression,sold=2*binary,size=ordinal:4,kind=0.5*classification:4)"


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
    if task == "poisson":
        targets = torch.poisson(torch.rand(rows, 2, generator=generator, dtype=torch.float64) * 4, generator=generator)
        return (targets + 0.5).log() + 0.4 * normal(rows, 2), targets
    if task == "quantile":
        targets = normal(rows)
        return targets.unsqueeze(-1) + torch.tensor([-1.0, 0.0, 1.0]) + 0.3 * normal(rows, 3), targets
    if task == "ordinal":
        targets = classes(4, rows)
        return 2.0 * targets.unsqueeze(-1) - torch.tensor([1.0, 3.0, 5.0]) + normal(rows, 3), targets
    if task == "segmentation":
        targets = classes(3, rows, 4, 5)
        outputs = torch.nn.functional.one_hot(targets, 3).movedim(-1, 1) + normal(rows, 3, 4, 5)
        return outputs, targets.masked_fill(normal(rows, 4, 5) > 1, -100)
    if task.startswith("multi("):
        each = [case(name, rows) for name in ("regression", "binary", "ordinal", "classification")]
        columns = [targets.double() for _, targets in each]
        return torch.cat([outputs for outputs, _ in each], 1), torch.stack(columns, 1)
    if task == "ranking":
        targets = classes(4, rows, 12).double()
        return targets.unsqueeze(-1) + normal(rows, 12, 1), targets.masked_fill(
            torch.arange(12) > classes(12, rows, 1), -100
        )
    if task.startswith("survival"):
        hazards = normal(rows)
        times, seen = (-torch.rand(rows, generator=generator, dtype=torch.float64).log() for _ in range(2))
        times = (10 * torch.minimum(times / hazards.exp(), seen)).ceil()  # some at the same time
        return (hazards + 0.4 * normal(rows)).unsqueeze(-1), torch.stack([times, (normal(rows) > -1).double()], 1)
    if task == "next_token":
        targets = classes(5, rows, 6)
        outputs = torch.nn.functional.one_hot(targets, 5) + normal(rows, 6, 5)
        return outputs, targets.masked_fill(torch.arange(6) > classes(6, rows, 1), -100)
    hidden = normal(rows, 3 if task == "multilabel" else 1)
    return hidden + 0.8 * normal(*hidden.shape), (hidden > 0.3).double().squeeze(-1)
