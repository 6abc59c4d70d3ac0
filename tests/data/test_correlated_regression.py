"""Groups of correlated features with the correlation that was asked for."""

import numpy as np
import pytest
import torch

from reglab.core.errors import UserError
from reglab.data import load

LARGE = {"name": "correlated_regression", "rows": 6000, "groups": 4, "group_size": 3, "informative_groups": 2}


def test_correlation_is_as_asked_within_groups_and_zero_between():
    data = load(LARGE | {"correlation": 0.8})
    found = np.corrcoef(data.train.inputs.numpy().T)
    groups = data.feature_groups.numpy()
    same = groups[:, None] == groups
    np.testing.assert_allclose(found, np.where(np.eye(12, dtype=bool), 1, 0.8 * same), atol=0.07)


def test_truth_belongs_to_whole_groups_and_signal_has_variance_one():
    data = load(LARGE | {"standardize": False, "noise": 0})
    per_group = data.coefficients.reshape(4, 3)
    assert torch.equal(per_group, per_group[:, :1].expand(4, 3))
    assert (per_group[:, 0] != 0).sum() == 2
    assert torch.equal(data.relevant, data.coefficients != 0)
    torch.testing.assert_close(data.train.targets, data.train.inputs @ data.coefficients, atol=1e-5, rtol=0)
    assert data.train.targets.var().item() == pytest.approx(1, abs=0.1)


def test_names_tell_the_group():
    data = load(LARGE)
    assert [int(name.split("_")[1]) for name in data.feature_names] == data.feature_groups.tolist()
    assert len(set(data.feature_names)) == 12


def test_impossible_options_are_refused():
    with pytest.raises(UserError, match=r"data\.informative_groups=5 is more than data\.groups=4"):
        load(LARGE | {"informative_groups": 5})
    with pytest.raises(UserError, match=r"data\.correlation must be a finite number from 0 to 1, got 1\.5"):
        load(LARGE | {"correlation": 1.5})
