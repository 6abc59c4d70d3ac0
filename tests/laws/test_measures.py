"""Laws of every measure, found by its yaml in ``conf/measure``: one that is added is under them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import fused_harness as fused
import laws_harness as harness
import pytest
import torch
from torch import Tensor, nn

from reglab.core.errors import UserError
from reglab.measures import (
    Gap,
    Measure,
    Measured,
    MeasureSettings,
    OfModels,
    Weights,
    measure_settings,
    measured,
)
from reglab.tracking import RunSpec, open_run, open_runs
from reglab.tracking.pack_manifest import Manifest
from reglab.training.experiment import Experiment
from reglab.training.fit import fit
from reglab.training.fused.best import Best
from reglab.training.fused.finalize import PackFinalizer
from reglab.training.fused.job import fit_pack
from reglab.training.fused.module import PackModule
from reglab.training.fused.pack import Pack
from reglab.training.fused.recorder import PackRecorder

nodes = harness.measure_nodes


class Moved(Measure):
    """A measure of a user's own."""

    needs = frozenset({"function"})

    def measure(self, of: Measured, state: dict[str, Tensor]) -> dict[str, Tensor]:
        rows = torch.arange(0, of.count("val"), 2)
        state["calls"] = state.get("calls", torch.zeros(of.members)) + 1
        moved = {name: value + 0.1 for name, value in of.parameters.items()}
        return {"own/moved": of.losses("val", rows, moved).mean(-1), "own/calls": state["calls"]}


def settings(**changes: Any) -> MeasureSettings:
    """Return settings with every measure, and one of a user's own that keeps a count."""
    made = measure_settings({name: {**node, **changes.get(name, {})} for name, node in nodes().items()})
    return replace(made, measures={**made.named, "moved": Moved()})


def job(number: int, measure: MeasureSettings, regularizers: Mapping[str, float] | None = None) -> Experiment:
    """Return a job on noisy labels, with a strength of its own; it trains for 3 epochs."""
    members = harness.members("l2", strength=0.01 * (1 + number))
    for name, number_of in (regularizers or {}).items():
        members |= harness.members(name, **{"patience" if name == "early_stopping" else "strength": number_of})
    made = fused.job(members, seed=number, epochs=3, data=fused.relabelled(number), model=fused.net(number))
    return replace(made, measure=measure, recipe=replace(made.recipe, steps_per_batch=1))


def alone(made: Experiment, folder: Path) -> dict[tuple[str, int], float]:
    """Return what a job records that trains alone, what ``fit`` returns at step -1."""
    tracker = open_run(harness.NOWHERE, name="alone", folder=folder, config={}, params={}, tags={})
    final = fit(made, tracker)
    tracker.finish()
    return harness.rows_of(folder) | {(key, -1): value for key, value in final.items() if not key.startswith("system/")}


def together(jobs: list[Experiment], folder: Path) -> list[dict[tuple[str, int], float]]:
    """Return what the jobs record that train as a pack, what they are ended with at step -1."""
    trackers = open_runs(harness.NOWHERE, [RunSpec(f"{n}", folder / str(n), {}, {}, {}) for n in range(len(jobs))])
    module, results = PackModule(Pack(jobs)), dict[int, Any]()
    best = Best(module.pack, "val/loss")
    finalizer = PackFinalizer(module, trackers, best, results.__setitem__)
    finalizer.recorder = PackRecorder(module, best, trackers, None, finalizer.end)
    numbers = tuple(map(str, range(len(jobs))))
    kept = Manifest("", tuple(map(int, numbers)), tuple(str(folder / number) for number in numbers), numbers, numbers)
    fit_pack(module, finalizer.recorder, kept)
    finalizer.end(dict.fromkeys(finalizer.unfinished()))
    recorded = []
    for number in range(len(jobs)):
        rows = {key: value for key, value in harness.rows_of(folder / str(number)).items() if key[1] <= 3}
        recorded.append(rows)
    return recorded


@pytest.mark.parametrize("stops", [False, True], ids=["last", "best"])
def test_a_member_of_a_pack_is_measured_as_it_is_alone(stops: bool, tmp_path: Path) -> None:
    extra = {"early_stopping": 1.0, "ema": 0.7} if stops else {}
    packed = together([job(number, settings(), extra) for number in range(3)], tmp_path)
    for number in (0, 2):
        own = alone(job(number, settings(), extra), tmp_path / f"alone{number}")
        ended = {key: value for key, value in own.items() if key[1] >= 0}
        assert packed[number].keys() >= ended.keys()
        for key, value in ended.items():
            assert packed[number][key] == pytest.approx(value, rel=1e-5, abs=1e-8, nan_ok=True), key


def test_frozen_weights_are_counted_alone_and_in_a_pack(tmp_path: Path) -> None:
    def frozen(number: int) -> Experiment:
        model = fused.net(number)
        linears(model)[0].requires_grad_(False)
        made = fused.job({}, seed=number, epochs=1, data=fused.relabelled(number), model=model)
        return replace(made, measure=MeasureSettings(measures={"gap": Gap(), "weights": Weights()}))

    def linears(model: torch.nn.Module) -> list[torch.nn.Linear]:
        return [each for each in model.modules() if isinstance(each, torch.nn.Linear)]

    own, packed = alone(frozen(0), tmp_path / "alone"), together([frozen(0), frozen(1)], tmp_path)
    counted = [each["weights/all/frozen", 1] for each in (own, *packed)]
    assert counted == [linears(fused.net(0))[0].weight.numel()] * 3


def test_training_does_not_notice_them(tmp_path: Path) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with_all = harness.trained(job(0, settings()), tmp_path / "all")
    assert torch.equal(torch.get_rng_state(), before)
    bare = measure_settings({"gap": nodes()["gap"]})
    harness.assert_same_bits(with_all, harness.trained(job(0, bare), tmp_path / "bare"))


@pytest.mark.parametrize("step", [6, 8])
def test_a_resumed_run_records_each_number_once_and_as_if_nothing_had_happened(step: int, tmp_path: Path) -> None:
    harness.interrupted_and_resumed(lambda: job(1, settings()), step, tmp_path / "cut")
    harness.trained(job(1, settings()), tmp_path / "whole")
    assert harness.rows_of(tmp_path / "cut") == pytest.approx(
        harness.rows_of(tmp_path / "whole"), rel=0, abs=0, nan_ok=True
    )


@pytest.mark.parametrize("name", nodes())
def test_it_is_described_and_its_every_is_checked(name: str) -> None:
    measures = settings().named
    assert isinstance(measures[name], Measure)
    assert type(measures[name]).__doc__
    assert measures[name].row_passes(1000) >= 0
    if name != "gap":
        with pytest.raises(UserError, match=rf"measure\.{name}: every=0 must be an integer >= 1, end"):
            settings(**{name: {"every": 0}})
        rare = {each: {"every": 2} if each == name else {} for each in nodes()}
        assert not settings(**rare).named[name].due(1, last=False)
        assert settings(**rare).named[name].due(2, last=False)


def test_all_at_the_end_of_members_that_end_one_after_the_other(tmp_path: Path) -> None:
    measure = settings(**{name: {"every": "end"} for name in nodes() if name != "gap"})
    packed = together([job(number, measure, {"early_stopping": 1.0}) for number in range(3)], tmp_path)
    own = alone(job(1, measure, {"early_stopping": 1.0}), tmp_path / "alone")
    for key, value in own.items():
        if key[1] > 0:
            assert packed[1][key] == pytest.approx(value, rel=1e-5, abs=1e-8, nan_ok=True), key


@pytest.mark.parametrize("stops", [False, True], ids=["last", "best"])
def test_one_that_is_taken_once_is_of_the_weights_that_a_run_stands_for(stops: bool, tmp_path: Path) -> None:
    measure = MeasureSettings(measures={"gap": Gap(), "once": Moved(every="end")})
    extra = {"early_stopping": 1.0} if stops else {}
    packed = together([job(number, measure, extra) for number in range(3)], tmp_path)
    for number in range(3):
        own = alone(job(number, measure, extra), tmp_path / f"alone{number}")
        epoch = int(own["epoch", -1])
        assert packed[number]["own/moved", epoch] == pytest.approx(own["own/moved", -1], rel=1e-9)
        assert own["own/moved", -1] == own["own/moved", epoch]


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))


@pytest.mark.parametrize("weight", [torch.nan, torch.inf, 1e30], ids=str)
@pytest.mark.parametrize("name", nodes())
def test_a_member_that_diverges_leaves_the_numbers_of_the_others(name: str, weight: float) -> None:
    models = [network(seed) for seed in range(3)]
    with torch.no_grad():
        models[1][0].weight[0, 0] = weight
    rows = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    part = rows, (rows[:, 0] > 0).long()

    def found(chosen: list[nn.Module]) -> dict[str, Tensor]:
        first = [dict(network(seed + 3).named_parameters()) for seed in range(len(chosen))]
        initial = first if len(chosen) == 3 else [first[0], dict(network(5).named_parameters())]
        return measured(OfModels(chosen, part, part, "classification", initial), {name: settings().named[name]})

    among, apart = found(models), found([models[0], models[2]])
    assert among.keys() >= apart.keys()
    for key, values in apart.items():
        torch.testing.assert_close(among[key][[0, 2]].double(), values.double(), rtol=1e-4, atol=1e-6, equal_nan=True)
