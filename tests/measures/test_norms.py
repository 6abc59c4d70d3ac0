"""Norms against NumPy's singular values and a sum over all paths."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import reglab
from reglab.core.errors import UserError
from reglab.measures import Gap, Norms, OfModels, measured

ROWS = (torch.zeros(3, 4, dtype=torch.float64), torch.tensor([0, 1, 2]))


def net(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3)).double()


def numbers(model: nn.Module, rows: tuple[Tensor, Tensor] = ROWS, path: bool = True) -> dict[str, float]:
    found = measured(OfModels([model], rows, rows, "classification"), {"norms": Norms(path=path)})
    return {name.removeprefix("norms/"): float(value) for name, value in found.items()}


def test_products_and_sums_are_those_of_numpys_singular_values() -> None:
    models, begun = [net(0), net(1)], [net(2).state_dict(), net(3).state_dict()]
    of = OfModels(models, ROWS, ROWS, "classification", begun)
    found = measured(of, {"norms": Norms()})
    for member, (model, first) in enumerate(zip(models, begun, strict=True)):
        names = ["0.weight", "2.weight", "4.weight"]
        weights, initial = ([state[name].numpy() for name in names] for state in (model.state_dict(), first))
        values = [np.linalg.svd(weight, compute_uv=False) for weight in weights]
        frobenius = [math.sqrt((each**2).sum()) for each in values]
        ranks = sum(f**2 / v[0] ** 2 for f, v in zip(frobenius, values, strict=True))
        moved = sum(((w - w0) ** 2).sum() / v[0] ** 2 for w, w0, v in zip(weights, initial, values, strict=True))
        product = math.prod(v[0] for v in values)
        expected = {
            "log_spectral_product": math.log(product),
            "log_frobenius_product": math.log(math.prod(frobenius)),
            "stable_rank_sum": ranks,
            "distance_over_spectral": moved,
            "log_spectral_bound": math.log(product**2 * ranks),
            "log_distance_bound": math.log(product**2 * moved),
        }
        for name, value in expected.items():
            assert float(found[f"norms/{name}"][member]) == pytest.approx(value, rel=1e-4), name


def test_the_path_norm_is_the_sum_over_all_paths() -> None:
    model = net(0)
    (a, b), (c, d), (e, f) = ([p.detach().numpy() for p in model[layer].parameters()] for layer in (0, 2, 4))
    total = 0.0
    for o, j in itertools.product(range(3), range(6)):
        for i in range(5):
            start = sum(a[i, x] ** 2 for x in range(4)) + b[i] ** 2
            total += e[o, j] ** 2 * c[j, i] ** 2 * start
        total += e[o, j] ** 2 * d[j] ** 2
    total += (f**2).sum()
    assert numbers(model)["path"] == pytest.approx(math.sqrt(total), rel=1e-12)


class Branched(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(4, 4, bias=False), nn.Linear(4, 2, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = torch.relu(self.first(inputs)) + inputs
        outputs: Tensor = self.head(hidden)
        return outputs


def test_paths_run_through_sums_and_convolutions() -> None:
    model = Branched().double()
    a, b = model.first.weight.detach().numpy(), model.head.weight.detach().numpy()
    expected = math.sqrt(((b**2) @ (a**2 + np.eye(4))).sum())
    assert numbers(model)["path"] == pytest.approx(expected, rel=1e-12)
    images = (torch.zeros(2, 1, 3, 3, dtype=torch.float64), torch.tensor([0, 1]))
    filtered = nn.Sequential(nn.Conv2d(1, 1, 3, bias=False), nn.Flatten(), nn.Linear(1, 2, bias=False)).double()
    kernel, head = (p.detach().square().sum() for p in filtered.parameters())
    assert numbers(filtered, images)["path"] == pytest.approx(float((kernel * head).sqrt()), rel=1e-12)


@pytest.mark.parametrize(("part", "told"), [(nn.Tanh(), "Tanh"), (nn.BatchNorm1d(5), "BatchNorm1d")])
def test_other_parts_are_refused_by_name(part: nn.Module, told: str) -> None:
    model = nn.Sequential(nn.Linear(4, 5), part, nn.Linear(5, 3)).double()
    with pytest.raises(UserError, match=rf"this model has {told}: set measure\.norms\.path=false"):
        numbers(model)
    assert math.isfinite(numbers(model, path=False)["log_spectral_product"])


def test_a_model_without_paths_is_refused_before_training() -> None:
    data = reglab.dataset(torch.randn(40, 4), torch.randint(0, 2, (40,)))
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
    measure = reglab.MeasureSettings(measures={"gap": Gap(), "norms": Norms(path=True, every="end")})
    before = model[0].weight.clone()
    with pytest.raises(UserError, match=r"this model has Tanh: set measure\.norms\.path=false"):
        reglab.fit(model, data, epochs=1, measure=measure)
    assert torch.equal(model[0].weight, before)


def test_weights_of_zero_have_finite_logarithms() -> None:
    model = net(0)
    nn.init.zeros_(model[2].weight)
    assert all(math.isfinite(value) for value in numbers(model).values())


def test_path_is_a_yes_or_a_no() -> None:
    with pytest.raises(ValueError, match="path=2 must be true or false"):
        Norms(path=2)  # type: ignore[arg-type]
