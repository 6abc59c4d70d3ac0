import numpy as np
import pytest
import torch

from reglab.measures import to_floats, weight_statistics
from reglab.measures.weights import Whole
from shards import Ranks, cut

SHAPES = {"conv.weight": (5, 3, 2, 2), "head.weight": (4, 7)}


def three_states(dtype=torch.float64):
    """Return weights, initial and previous ones; a third of the weights is exactly zero, some are
    tiny.
    """
    generator = torch.Generator().manual_seed(4)
    states = [
        {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in SHAPES.items()}
        for _ in range(3)
    ]
    for weight in states[0].values():
        flat = weight.view(-1)
        flat[::3] = 0
        flat[1::3] *= 1e-4
    states[0]["conv.weight"] += 0.2 * (states[0]["conv.weight"] != 0)
    return [{name: weight.to(dtype) for name, weight in state.items()} for state in states]


def by_numpy(weights, initial, previous, near):
    flat = [np.concatenate([w.double().numpy().ravel() for w in state]) for state in (weights, initial, previous)]
    now, start, before = flat
    return {
        "l1": np.abs(now).sum(),
        "l2": np.linalg.norm(now),
        "max": np.abs(now).max(),
        "mean": now.mean(),
        "std": now.std(),
        "zeros": np.mean(now == 0),
        "near_zeros": np.concatenate(
            [(w.double().abs() <= near * w.double().abs().max()).ravel() for w in weights]
        ).mean(),
        "distance": np.linalg.norm(now - start),
        "update": np.linalg.norm(now - before) / np.linalg.norm(before),
    }


@pytest.mark.parametrize("near", [0.0, 1e-3, 0.1])
def test_equals_numpy_for_each_parameter_and_for_all_as_one_vector(near):
    states = three_states()
    measured = to_floats(weight_statistics(*states, near_zero=near))
    expected = {}
    for label, names in [*((name, [name]) for name in SHAPES), ("all", list(SHAPES))]:
        values = by_numpy(*([state[name] for name in names] for state in states), near)
        expected |= {f"weights/{label}/{statistic}": value for statistic, value in values.items()}
    assert set(measured) == set(expected)
    assert measured == pytest.approx(expected, rel=1e-12, abs=1e-13)


def test_of_all_weights_alone():
    states = three_states()
    whole, everything = weight_statistics(*states, per_layer=False), weight_statistics(*states)
    assert set(whole) == {name for name in everything if name.startswith("weights/all/")}
    assert all(torch.equal(whole[name], everything[name]) for name in whole)


def test_inputs_are_not_changed_and_no_gradient_is_kept():
    states = three_states()
    states[0] = {name: torch.nn.Parameter(weight) for name, weight in states[0].items()}
    copies = [{name: weight.detach().clone() for name, weight in state.items()} for state in states]
    measured = weight_statistics(*states)
    assert not any(value.requires_grad for value in measured.values())
    for state, copy in zip(states, copies, strict=True):
        assert all(torch.equal(state[name], copy[name]) for name in state)


def test_float32_sums_of_millions_of_weights_are_right():
    weight = torch.randn(2000, 2000, generator=torch.Generator().manual_seed(0)) + 3
    wide = weight.double().numpy()
    measured = to_floats(weight_statistics({"w": weight}, {"w": weight}, {"w": weight}))
    assert measured["weights/all/l1"] == pytest.approx(np.abs(wide).sum(), rel=1e-6)
    assert measured["weights/all/l2"] == pytest.approx(np.linalg.norm(wide), rel=1e-6)
    assert measured["weights/all/std"] == pytest.approx(wide.std(), rel=1e-6)


def test_half_precision_is_measured_in_float32():
    states = three_states(torch.bfloat16)
    measured = weight_statistics(*states)
    wider = weight_statistics(*({name: weight.float() for name, weight in state.items()} for state in states))
    assert all(torch.equal(measured[name], wider[name]) for name in wider)
    assert measured["weights/all/l1"].dtype == torch.float32


def test_weights_that_are_all_zero_give_no_nan():
    zero = {"w": torch.zeros(2, 3)}
    measured = to_floats(weight_statistics(zero, {"w": torch.ones(2, 3)}, zero))
    expected = {"zeros": 1, "near_zeros": 1, "update": 0, "distance": 6**0.5, "l1": 0, "l2": 0, "max": 0, "std": 0}
    assert {name: measured[f"weights/w/{name}"] for name in expected} == pytest.approx(expected)


def test_a_model_without_weights_has_no_statistics():
    assert to_floats(weight_statistics({}, {}, {})) == {}


def test_spread_far_from_zero_does_not_cancel():
    weights = {
        name: torch.randn(300, generator=torch.Generator().manual_seed(index)) + 1000 * index
        for index, name in enumerate(("near", "far"))
    }
    measured = to_floats(weight_statistics(weights, weights, weights))
    assert measured["weights/far/std"] == pytest.approx(weights["far"].double().numpy().std(), rel=1e-5)
    together = torch.cat(list(weights.values())).double().numpy()
    assert measured["weights/all/std"] == pytest.approx(together.std(), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("per_layer", [True, False])
def test_stacked_members_are_measured_each_by_itself(per_layer, dtype):
    states = three_states(dtype)
    scales = torch.tensor([1.0, -0.5, 0.0], dtype=dtype)
    stacked = [{name: torch.stack([w * scale for scale in scales]) for name, w in state.items()} for state in states]
    together = weight_statistics(*stacked, per_layer=per_layer, stacked=True)
    for member in range(3):
        solo = weight_statistics(*({n: w[member] for n, w in state.items()} for state in stacked), per_layer=per_layer)
        assert list(together) == list(solo)
        for name, value in solo.items():
            assert together[name].shape == (3,)
            assert float(together[name][member]) == pytest.approx(float(value), rel=1e-6, abs=1e-6)


def by_ranks(states, parts, **settings):
    """Return what each of so many ranks measures, each holding a part of the weights, and the
    collectives they made.
    """
    ranks = Ranks(parts)
    stacked = settings.get("stacked", False)
    shards = [{name: _cut(weight, parts, stacked) for name, weight in state.items()} for state in states]
    sizes = {name: weight[0].numel() if stacked else weight.numel() for name, weight in states[0].items()}

    def measure(rank):
        local = ({name: part[rank] for name, part in state.items()} for state in shards)
        return weight_statistics(*local, whole=Whole(ranks.add, ranks.largest, sizes), **settings)

    return ranks.run(measure), ranks.calls


def _cut(weight, parts, stacked):
    return [part.movedim(1, 0) for part in cut(weight.movedim(0, 1), parts)] if stacked else cut(weight, parts)


@pytest.mark.parametrize("near", [0.0, 1e-3, 0.1])
@pytest.mark.parametrize("parts", [1, 2, 3, 5])  # of 5 and 4 rows: with 3 and with 5, a rank has none
def test_parts_on_several_ranks_equal_numpy_on_the_whole(parts, near):
    states = three_states()
    expected = {}
    for label, names in [*((name, [name]) for name in SHAPES), ("all", list(SHAPES))]:
        values = by_numpy(*([state[name] for name in names] for state in states), near)
        expected |= {f"weights/{label}/{statistic}": value for statistic, value in values.items()}
    answers, calls = by_ranks(states, parts, near_zero=near)
    for measured in answers:
        assert to_floats(measured) == pytest.approx(expected, rel=1e-12, abs=1e-13)
        assert all(torch.equal(measured[name], answers[0][name]) for name in measured)
    assert sorted(calls) == ["add", "add", "largest"]  # whatever the number of parameters
    assert any(len(part) == 0 for w in states[0].values() for part in cut(w, parts)) == (parts in (3, 5))


def test_parts_far_from_zero_and_from_each_other_do_not_cancel():
    weight = 1000 * torch.arange(1, 6)[:, None] + torch.randn(5, 60, generator=torch.Generator().manual_seed(0))
    weights = {"w": weight, "low": torch.randn(7, 3, generator=torch.Generator().manual_seed(1)) - 500}
    together = np.concatenate([w.double().numpy().ravel() for w in weights.values()])
    for measured in by_ranks([weights] * 3, 3)[0]:
        assert float(measured["weights/w/std"]) == pytest.approx(weight.double().numpy().std(), rel=1e-6)
        assert float(measured["weights/all/std"]) == pytest.approx(together.std(), rel=1e-6)


def test_parts_in_half_precision_are_measured_in_float32():
    states = three_states(torch.bfloat16)
    whole = weight_statistics(*states)
    for measured in by_ranks(states, 3)[0]:
        assert all(value.dtype == torch.float32 for value in measured.values())
        assert to_floats(measured) == pytest.approx(to_floats(whole), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("per_layer", [True, False])
def test_parts_of_stacked_members_equal_the_members(per_layer):
    states = three_states()
    stacked = [{name: torch.stack([w, -0.5 * w, 0 * w]) for name, w in state.items()} for state in states]
    whole = weight_statistics(*stacked, per_layer=per_layer, stacked=True)
    for measured in by_ranks(stacked, 3, per_layer=per_layer, stacked=True)[0]:
        assert list(measured) == list(whole)
        for name, value in whole.items():
            torch.testing.assert_close(measured[name], value, rtol=1e-12, atol=1e-13)


def test_nan_in_one_part_is_seen_by_all_ranks_and_infinity_is_the_largest():
    weight = torch.ones(4, 2)
    weight[3, 1] = torch.nan
    endless = torch.ones(4, 2)
    endless[0, 0] = torch.inf
    for measured in by_ranks([{"w": weight, "endless": endless, "sound": torch.ones(3, 2)}] * 3, 3)[0]:
        assert all(measured[f"weights/{name}/max"].isnan() for name in ("w", "all"))
        assert float(measured["weights/endless/max"]) == torch.inf
        assert float(measured["weights/sound/max"]) == 1


def test_parts_that_are_all_zero_give_no_nan_and_nothing_is_changed():
    states = [{"w": torch.zeros(2, 3)}, {"w": torch.ones(2, 3)}, {"w": torch.zeros(2, 3)}]
    for measured in by_ranks(states, 3)[0]:
        expected = {"zeros": 1, "near_zeros": 1, "update": 0, "distance": 6**0.5, "l1": 0, "l2": 0, "max": 0, "std": 0}
        assert {name: float(measured[f"weights/w/{name}"]) for name in expected} == pytest.approx(expected)
    local = torch.arange(6.0).reshape(2, 3)
    whole = Whole(lambda sums: sums.clone(), lambda sizes: sizes.clone(), {"w": 6})
    weight_statistics({"w": local}, {"w": local}, {"w": local}, whole=whole)
    assert torch.equal(local, torch.arange(6.0).reshape(2, 3))


def test_parts_are_judged_beside_the_largest_weight_of_the_whole():
    weights = {"w": torch.tensor([[1000.0], [0.5], [2.0]])}
    for measured in by_ranks([weights] * 3, 3, near_zero=1e-3)[0]:
        assert float(measured["weights/w/near_zeros"]) == pytest.approx(1 / 3)
