"""Effective rank and power-law exponent against closed forms, numpy and the package ``powerlaw``."""

import numpy as np
import pytest
import torch
from torch import nn

from reglab.measures import OfModels, SpectralShape, measured
from reglab.measures.spectral_shape import FEWEST, effective_rank, power_law_exponent

# By powerlaw.Fit(eigenvalues) of powerlaw 1.5, with which WeightWatcher fits: degrees of freedom of
# Student's t that the weights are drawn from, seed, alpha.
RECORDED = [(2.5, 0, 3.0838234988979893), (1.5, 1, 1.9061692679524807), (30, 2, 3.4222626386940562)]


def matrix(freedom: float, seed: int) -> np.ndarray:
    return np.random.RandomState(seed).standard_t(freedom, size=(120, 80))


def of(*matrices: np.ndarray) -> OfModels:
    models = []
    for each in matrices:
        model = nn.Linear(each.shape[1], each.shape[0], bias=False).double()
        model.weight.data = torch.as_tensor(each)
        models.append(model)
    rows = (torch.zeros(2, matrices[0].shape[1], dtype=torch.float64), torch.tensor([0, 1]))
    return OfModels(models, rows, rows, "classification")


@pytest.mark.parametrize(("freedom", "seed", "alpha"), RECORDED)
def test_alpha_is_that_of_powerlaw(freedom: float, seed: int, alpha: float) -> None:
    found = measured(of(matrix(freedom, seed)), {"shape": SpectralShape()})
    assert float(found["weights/weight/alpha"]) == pytest.approx(alpha, rel=1e-9)
    assert float(found["weights/all/alpha"]) == pytest.approx(alpha, rel=1e-9)


def test_alpha_finds_the_exponent_that_was_drawn_and_no_scale() -> None:
    uniform = np.random.RandomState(0).uniform(size=2000)
    drawn = torch.as_tensor((1 - uniform) ** (-1 / 1.8))  # a density ~ x^-2.8 from 1 on
    assert float(power_law_exponent(drawn)) == pytest.approx(2.8, abs=0.15)
    assert float(power_law_exponent(1e-6 * drawn)) == pytest.approx(float(power_law_exponent(drawn)), rel=1e-9)


def test_effective_rank_of_equal_singular_values_is_how_many_there_are() -> None:
    basis = np.linalg.qr(np.random.RandomState(0).normal(size=(60, 60)))[0]
    found = measured(of(3.0 * basis[:, :7] @ basis[:, 20:27].T), {"shape": SpectralShape()})
    assert float(found["weights/weight/effective_rank"]) == pytest.approx(7, rel=1e-9)
    assert bool(found["weights/weight/alpha"].isnan())  # of 7 eigenvalues
    assert float(effective_rank(torch.zeros(3))) == 0


def test_members_are_measured_as_they_are_alone_and_one_that_has_diverged_is_nan() -> None:
    each = [matrix(2.5, 0), np.full((120, 80), np.nan), matrix(1.5, 1)]
    joint = measured(of(*each), {"shape": SpectralShape()})
    for name, values in joint.items():
        alone = [float(measured(of(one), {"shape": SpectralShape()})[name]) for one in each]
        assert values.tolist() == pytest.approx(alone, rel=1e-9, nan_ok=True)
        assert values.isnan().tolist() == [False, True, False]


def test_a_small_matrix_has_no_alpha() -> None:
    found = measured(of(matrix(2.5, 0)[:, : FEWEST - 1]), {"shape": SpectralShape()})
    assert {name.rpartition("/")[2] for name in found} == {"effective_rank"}
    values = np.linalg.svd(matrix(2.5, 0)[:, : FEWEST - 1], compute_uv=False)
    shares = values / values.sum()
    assert float(found["weights/all/effective_rank"]) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))


def test_it_is_taken_once_unless_asked_more_often() -> None:
    assert SpectralShape().every == "end"
    assert not SpectralShape().due(3, last=True)
    assert SpectralShape(every=2).due(4, last=False)
