"""Law: BatchNorm over ranks with unequal parts, one of them with none, is nn.BatchNorm on the joint
batch.
"""

from typing import Any

import pytest
import torch
from tests.distributed.norm_ranks import CASES, ROWS, Found, built, start, worked
from torch import Tensor, multiprocessing, nn

from reglab.distributed.sync_batchnorm import synchronize_batchnorm


@pytest.fixture(scope="module", params=sorted(ROWS))
def ranks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each rank found, of two and of four."""
    folder = tmp_path_factory.mktemp("ranks")
    multiprocessing.spawn(start, (request.param, str(folder)), nprocs=request.param)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(request.param)]


def joined(ranks: list[dict[str, Any]], case: str) -> Found:
    """Return what ``worked`` would in one process: rows put together, gradients added up, buffers
    as they are.
    """
    rows = ROWS[len(ranks)]
    parts: list[Found] = [rank[case] for rank in ranks]
    for part in parts:
        for name, value in part.items():
            if name.startswith("state"):
                assert torch.equal(value, parts[0][name]), name  # the same bits on every rank
    for part, count in zip(parts, rows, strict=True):
        if count == 0:  # a stand-in counts for nothing
            assert not any(value.any() for name, value in part.items() if name.startswith("gradient"))
    actual = {name: torch.stack([part[name] for part in parts]).sum(0) for name in parts[0] if "gradient/" in name}
    actual |= {name: value for name, value in parts[0].items() if name.startswith("state")}
    for name in ("outputs", "gradient"):
        actual[name] = torch.cat([part[name][:count] for part, count in zip(parts, rows, strict=True)])
    return actual


def assert_close(actual: Found, expected: Found, tolerance: float) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert actual[name].dtype == value.dtype, name
        torch.testing.assert_close(
            actual[name], value, rtol=tolerance, atol=tolerance, msg=lambda message, name=name: f"{name}: {message}"
        )


@pytest.mark.parametrize("case", CASES)
def test_ranks_equal_one_process_on_the_joint_batch(case: str, ranks: list[dict[str, Any]]) -> None:
    model, inputs = built(case)
    assert_close(joined(ranks, case), worked(model, inputs), 1e-12)


def test_a_deep_copy_moves_its_own_statistics_and_can_be_differentiated_twice(ranks: list[dict[str, Any]]) -> None:
    model, inputs = built("net")
    for name, value in model.named_buffers():
        assert torch.equal(ranks[0]["original"][name], value), name
    assert_close(joined(ranks, "curved"), worked(model, inputs, curved=True), 1e-9)


def test_nothing_cancels_far_from_zero(ranks: list[dict[str, Any]]) -> None:
    _, inputs = built("net")
    model = nn.BatchNorm1d(3).double()
    expected = worked(model, inputs)
    actual = joined(ranks, "far")
    # A sum of squares near 1e16 would leave no digit of the variance; the inputs themselves have
    # lost 1e-8 there.
    torch.testing.assert_close(actual["outputs"], expected["outputs"], rtol=0, atol=1e-6)
    torch.testing.assert_close(actual["state/running_var"], expected["state/running_var"], rtol=1e-6, atol=0)


def test_float32_and_autocast_keep_their_precision_and_their_kinds(ranks: list[dict[str, Any]]) -> None:
    model, inputs = built("images")
    assert_close(joined(ranks, "float32"), worked(model.float(), inputs.float()), 1e-4)
    model, inputs = built("net")
    with torch.autocast("cpu", torch.bfloat16):
        expected = worked(model.float(), inputs.float())
    actual = joined(ranks, "autocast")
    assert actual["outputs"].dtype == expected["outputs"].dtype
    # Statistics of bfloat16 activations, themselves in float32: only the activations' rounding is
    # between them.
    for name in ("state/0.1.running_mean", "state/0.1.running_var"):
        torch.testing.assert_close(actual[name], expected[name], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(actual["outputs"], expected["outputs"], rtol=0.05, atol=0.05)


def test_a_single_value_per_channel_is_refused_on_every_rank(ranks: list[dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match="more than 1 value per channel") as refused:
        nn.BatchNorm1d(3)(torch.ones(1, 3))
    for rank in ranks:
        assert str(rank["single"]).startswith(str(refused.value))


def test_evaluation_and_an_undone_model_ask_no_other_rank(ranks: list[dict[str, Any]]) -> None:
    model, inputs = built("net")
    assert torch.equal(ranks[0]["evaluated"], model.eval()(inputs))
    model, inputs = built("net")
    for name, value in worked(model, inputs).items():
        assert torch.equal(ranks[0]["undone"][name], value), name


def test_a_process_alone_trains_as_without() -> None:
    model, inputs = built("net")
    expected: dict[str, Tensor] = worked(model, inputs)
    model, inputs = built("net")
    synchronize_batchnorm(model, lambda: False)
    for name, value in worked(model, inputs).items():
        assert torch.equal(expected[name], value), name
