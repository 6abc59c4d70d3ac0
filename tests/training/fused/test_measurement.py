"""Every member's numbers against those of the solo measurement, of the same weights on the same
data.
"""

import pytest
import torch
from torch import Tensor, nn

from reglab import data
from reglab.data import DataSet
from reglab.measures import MeasureSettings
from reglab.regularizers import EMA, L1, Cocktail
from reglab.tasks import task_named
from reglab.training.experiment import Experiment
from reglab.training.fused.measurement import PackMeasurement
from reglab.training.fused.pack import Pack
from reglab.training.measured_rows import gap_rows
from reglab.training.measurement import Measurement
from reglab.training.recipe import Recipe

SETTINGS = MeasureSettings(probe_rows=70)
DATA = {
    "classification": {"name": "wine"},
    "binary": {"name": "breast_cancer"},
    "multilabel": {"name": "multilabel", "rows": 200},
    "regression": {"name": "diabetes"},
}
VARIANTS = {
    "shared": [{}, {}, {}],
    "label_noise": [{"label_noise": 0.3}] * 3,
    "other_noise": [{"label_noise": noise} for noise in (0.2, 0.4, 0.2)],
    "other_rows": [{"train_size": 80, "split_seed": seed} for seed in (0, 1, 0)],
}
PRECISION = {torch.float32: "32-true", torch.float64: "64-true"}


def net(given: DataSet, seed: int, dtype: torch.dtype = torch.float32) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        width = given.input_shape[0]
        layers = [nn.Linear(width, 9), nn.BatchNorm1d(9), nn.Tanh(), nn.Dropout(0.5), nn.Linear(9, given.outputs)]
        model = nn.Sequential(*layers)
        layers[1].running_mean.normal_()
        layers[1].running_var.uniform_(0.5, 2)
        layers[0].weight.data[seed % 3 :: 3] = 0
        return model.to(dtype)


def jobs(
    datas: list[DataSet],
    averaged: bool = False,
    dtype: torch.dtype = torch.float32,
    settings: MeasureSettings = SETTINGS,
) -> list[Experiment]:
    recipe = Recipe({"_target_": "torch.optim.SGD", "lr": 0.1}, {}, None, 16, 1, 2)
    actual = []
    for number, given in enumerate(datas):
        members = {"l1": L1(1e-3), **({"ema": EMA(0.5)} if averaged else {})}
        cocktail = Cocktail(members, 0, given.task)
        trainer = {"precision": PRECISION[dtype]}
        actual.append(Experiment(net(given, number, dtype), cocktail, given, recipe, settings, trainer))
    return actual


def stirred(weights: dict[str, Tensor], seed: int) -> None:
    """Move weights as training would."""
    generator = torch.Generator().manual_seed(seed)
    for weight in weights.values():
        weight.mul_(1 + 0.3 * torch.randn(weight.shape, generator=generator, dtype=torch.float64).to(weight.dtype))


def pack_measurement(
    datas: list[DataSet],
    dtype: torch.dtype = torch.float32,
    settings: MeasureSettings = SETTINGS,
    cells: int | None = None,
) -> PackMeasurement:
    return PackMeasurement(datas, settings, torch.device("cpu"), dtype, cells)


class Pair:
    """A pack, and its jobs one by one with the same weights."""

    def __init__(
        self,
        datas: list[DataSet],
        averaged: bool = False,
        dtype: torch.dtype = torch.float32,
        settings: MeasureSettings = SETTINGS,
        cells: int | None = None,
    ) -> None:
        self.datas = datas
        self.pack = Pack(jobs(datas, averaged, dtype, settings))
        self.together = pack_measurement(datas, dtype, settings, cells)
        self.solo_jobs = jobs(datas, averaged, dtype, settings)
        self.models = [job.cocktail.prepare(job.model.to(dtype)) for job in self.solo_jobs]
        self.measures = [
            Measurement(gap_rows([given], settings, torch.device("cpu"), dtype), settings) for given in datas
        ]
        self.together.begin(self.pack)
        for measure, model in zip(self.measures, self.models, strict=True):
            measure.begin(model)

    def stir(self, seed: int) -> None:
        stirred(self.pack.stack.weights, seed)
        averages = {name: value for name, value in self.pack.stack.buffers.items() if ".average_" in name}
        stirred(averages, seed + 1)
        for row, index in enumerate(self.pack.job_indices):
            job, model = self.solo_jobs[index], self.models[index]
            local = dict(model.named_parameters(prefix="model")) | dict(job.cocktail.named_buffers(prefix="cocktail"))
            for name, value in (self.pack.stack.weights | averages).items():
                local[name].data.copy_(value[row])

    def check(self, tolerance: float) -> dict[str, Tensor]:
        actual = self.together.gap(self.pack)
        actual |= self.together.weights(self.pack)
        for row, index in enumerate(self.pack.job_indices):
            measure, model, cocktail = self.measures[index], self.models[index], self.solo_jobs[index].cocktail
            given = self.datas[index]
            expected = measure.gap(model, cocktail)
            expected |= measure.weights(model, cocktail)
            assert list(actual) == list(expected)
            for name, value in expected.items():
                assert actual[name].shape == (len(self.pack),)
                near = tolerance
                if given.task == "multilabel" and "accuracy" in name:  # solo's mean over labels is float32 in any case
                    near = max(tolerance, 2e-7)
                # A gap, and r2, are differences of numbers near 1 or of losses: no more exact than
                # those are.
                unit = "val/rmse" if "rmse" in name or "mae" in name else "val/loss"
                scale = max(1.0, float(expected[unit])) if name.split("/")[0] in ("gap", "train", "val") else 1e-6
                assert float(actual[name][row]) == pytest.approx(float(value), rel=near, abs=near * scale), name
        return actual


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("task", DATA)
def test_each_member_equals_solo(task, variant, dtype, tolerance):
    datas = [data.load({**DATA[task], **option}) for option in VARIANTS[variant]]
    pair = Pair(datas, averaged=variant in ("label_noise", "other_rows"), dtype=dtype)
    for seed in (0, 10):
        pair.stir(seed)
        actual = pair.check(tolerance)
    assert ("memorization/clean_loss" in actual) == ("noise" in variant)
    assert ("weights/averaged/zeros" in actual) == (variant in ("label_noise", "other_rows"))


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-11)])
@pytest.mark.parametrize("variant", ["shared", "label_noise", "other_rows"])
@pytest.mark.parametrize("task", DATA)
def test_every_score_of_each_member_and_weighted_rows_equal_solo(task, variant, dtype, tolerance):
    names = task_named(task).scores
    settings = MeasureSettings(probe_rows=70, scores=names, monitor=f"val/{names[-1]}")
    weights = {"class_weight": "balanced"} if task in ("classification", "binary") else {}
    datas = [data.load({**DATA[task], **option, **weights}) for option in VARIANTS[variant]]
    pair = Pair(datas, dtype=dtype, settings=settings)
    pair.stir(0)
    actual = pair.check(tolerance)
    assert {f"gap/{name}_low" for name in names} < set(actual)
    assert ("gap/weighted_loss_low" in actual) == bool(weights)
    if task == "regression":
        assert float(actual["val/rmse"][0]) == pytest.approx(
            pair.datas[0].summary["target_std.progression"] * float(actual["val/loss"][0]) ** 0.5, rel=1e-6
        )


def small(variant: str = "shared", averaged: bool = False, cells: int | None = None) -> Pair:
    return Pair([data.load({"name": "wine", **option}) for option in VARIANTS[variant]], averaged, cells=cells)


@pytest.mark.parametrize("variant", ["other_noise", "other_rows"])
def test_the_members_that_stay_go_on_as_if_alone(variant):
    pair = small(variant, averaged=True)
    pair.stir(1)
    pair.check(1e-6)
    pair.pack.keep([1, 2])
    pair.together.keep([1, 2])
    pair.stir(2)
    pair.check(1e-6)


def test_a_resumed_pack_measures_from_the_old_beginning():
    pair = small()
    pair.stir(1)
    pair.check(1e-6)
    state = {when: {name: w.clone() for name, w in named.items()} for when, named in pair.together.state().items()}
    pair.stir(2)
    pair.together = pack_measurement(pair.datas)
    pair.together.begin(pair.pack, state)
    pair.check(1e-6)


def test_equal_data_are_kept_once_and_different_targets_do_not_repeat_the_inputs():
    shared, noisy, rows = (small(variant).together.rows for variant in ("shared", "other_noise", "other_rows"))
    parts = [[*side[:2]] for kept in (shared, noisy) for side in (kept.probe, kept.val)]
    assert [[part.per_member for part in side] for side in parts] == [
        [False] * 2,
        [False] * 2,
        [False, True],
        [False] * 2,
    ]
    assert noisy.probe.targets.values.shape == (2, 70)  # three jobs, of which two have the same noise
    assert rows.probe.inputs.per_member


def test_measuring_moves_nothing():
    pair = small(averaged=True)
    before = {name: tensor.clone() for name, tensor in (pair.pack.stack.weights | pair.pack.stack.buffers).items()}
    pair.check(1e-6)
    after = pair.pack.stack.weights | pair.pack.stack.buffers
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert pair.pack.base.model.training


def test_a_diverged_member_is_not_a_number_and_leaves_the_others_alone():
    pair = small()
    before = pair.together.gap(pair.pack)
    pair.pack.stack.weights["model.0.weight"][1] = float("nan")
    after = pair.together.gap(pair.pack)
    assert torch.isnan(after["gap/loss"]).tolist() == [False, True, False]
    assert all(torch.equal(after[name][[0, 2]], value[[0, 2]]) for name, value in before.items())


def test_rows_are_evaluated_in_chunks_of_any_size():
    pair = small("other_rows", cells=3 * 16)
    pair.stir(1)
    pair.check(1e-6)
