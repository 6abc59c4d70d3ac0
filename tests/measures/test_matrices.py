"""Matrix measures against numpy, loops and finite differences."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reglab.measures import Gradients, OfModels, Sparsity, Spectrum, measured
from reglab.measures.matrices import largest_singular_value, spread_rows

ROWS, FEATURES = 40, 7


def net(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv1d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * (FEATURES - 2), 9), nn.Tanh(), nn.Linear(9, 3)
    ).double()


def of(*models: nn.Module) -> OfModels:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(2 * ROWS, 1, FEATURES, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, 3, (2 * ROWS,), generator=generator)
    return OfModels(models, (inputs[:ROWS], targets[:ROWS]), (inputs[ROWS:], targets[ROWS:]), "classification")


def matrices(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: p.detach().flatten(1).numpy() for name, p in model.named_parameters() if p.dim() > 1}


def test_spectral_norms_are_those_of_numpy() -> None:
    model = net(1)
    found = measured(of(model), {"spectrum": Spectrum()})
    exact = {name: np.linalg.norm(matrix, 2) for name, matrix in matrices(model).items()}
    for name, matrix in matrices(model).items():
        assert float(found[f"weights/{name}/spectral_norm"]) == pytest.approx(exact[name], rel=1e-6)
        rank = np.linalg.norm(matrix) ** 2 / exact[name] ** 2
        assert float(found[f"weights/{name}/stable_rank"]) == pytest.approx(rank, rel=1e-6)
    assert float(found["weights/all/spectral_norm"]) == pytest.approx(max(exact.values()), rel=1e-6)


def test_it_follows_weights_that_move_from_where_it_was() -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(2, 300, 200, generator=generator)
    state: dict[str, Tensor] = {}
    for _ in range(20):
        found = largest_singular_value(matrix, state, "w")
        matrix = matrix + 0.02 * torch.randn(2, 300, 200, generator=generator)
    exact = torch.linalg.svdvals(matrix)[:, 0]
    found = largest_singular_value(matrix, state, "w")
    assert ((found / exact - 1).abs() <= 0.01).all()
    assert (found <= exact * (1 + 1e-5)).all()
    kept = {name: value[[1]] for name, value in state.items()}  # after the first member has left
    assert ((largest_singular_value(matrix[[1]], kept, "w") / exact[1] - 1).abs() <= 0.01).all()


def test_zero_groups_and_concentration_are_those_of_a_loop() -> None:
    model = net(2)
    with torch.no_grad():
        model[0].weight[1] = 0.0
        model[3].weight[:, :6] = 0.0
        model[3].weight[2] = 0.0
    found = {name: float(value) for name, value in measured(of(model), {"sparsity": Sparsity()}).items()}
    weights = {name: p.detach().numpy() for name, p in model.named_parameters() if p.ndim > 1}
    for name, values in {**weights, "all": np.concatenate([each.ravel() for each in weights.values()])}.items():
        flat = values.ravel()
        root = np.sqrt(flat.size)
        hoyer = (root - np.abs(flat).sum() / np.linalg.norm(flat)) / (root - 1)
        assert found[f"weights/{name}/hoyer"] == pytest.approx(hoyer, rel=1e-9)
        share = np.sum(flat**2) ** 2 / (flat.size * np.sum(flat**4))
        assert found[f"weights/{name}/participation"] == pytest.approx(share, rel=1e-9)
    assert found["weights/0.weight/zero_outputs"] == 1 / 4
    assert found["weights/3.weight/zero_outputs"] == 1 / 9
    assert found["weights/3.weight/zero_inputs"] == 6 / 20
    assert found["weights/all/zero_outputs"] == pytest.approx(2 / (4 + 9 + 3))
    assert found["weights/all/zero_inputs"] == pytest.approx(6 / (1 + 20 + 9))


def test_weights_that_are_all_zero_have_no_concentration() -> None:
    model = net(3)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    found = measured(of(model), {"sparsity": Sparsity(), "spectrum": Spectrum()})
    assert {float(found[f"weights/all/{name}"]) for name in ("hoyer", "participation", "spectral_norm")} == {0.0}
    assert float(found["weights/all/zero_outputs"]) == 1.0


def test_gradients_are_those_of_a_backward_pass() -> None:
    model = net(4)
    models = of(model)
    found = {name: float(value) for name, value in measured(models, {"gradients": Gradients(rows=10)}).items()}
    rows = spread_rows(ROWS, 10)
    inputs, targets = models.inputs("train", rows)[0], models.targets("train", rows)[0]
    nn.functional.cross_entropy(model(inputs), targets).backward()
    squares = 0.0
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        norm = float(parameter.grad.norm())
        squares += norm**2
        assert found[f"gradient/{name}/norm"] == pytest.approx(norm, rel=1e-9)
        assert found[f"gradient/{name}/ratio"] == pytest.approx(norm / float(parameter.detach().norm()), rel=1e-9)
    assert found["gradient/all/norm"] == pytest.approx(squares**0.5, rel=1e-9)


def test_members_are_measured_as_they_are_alone() -> None:
    models = [net(seed) for seed in range(3)]
    measures = {"spectrum": Spectrum(), "sparsity": Sparsity(), "gradients": Gradients()}
    joint = measured(of(*models), measures)
    for number, model in enumerate(models):
        for name, value in measured(of(model), measures).items():
            assert float(joint[name][number]) == pytest.approx(float(value[0]), rel=1e-7), name


@pytest.mark.parametrize("rows", [0, True, 2.5, "all"])
def test_rows_are_a_number_of_rows(rows: object) -> None:
    with pytest.raises(ValueError, match=r"rows=.* must be an integer >= 1"):
        Gradients(rows=rows)
