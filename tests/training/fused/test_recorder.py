"""What the runs of a pack record, beside what each records alone."""

from dataclasses import replace
from pathlib import Path

import fused_harness as fused
import laws_harness as harness
import pytest
import torch

from reglab.core.errors import Diverged
from reglab.measures import MeasureSettings
from reglab.tracking import RunSpec, RunTracker, open_run, open_runs
from reglab.tracking.pack_manifest import Manifest
from reglab.training.experiment import Experiment
from reglab.training.fit import fit
from reglab.training.fused.best import Best
from reglab.training.fused.finalize import PackFinalizer
from reglab.training.fused.job import fit_pack
from reglab.training.fused.module import PackModule
from reglab.training.fused.pack import Pack
from reglab.training.fused.recorder import PackRecorder
from reglab.training.job_result import JobResult

RATES = (0.05, 3e38, 0.02, 0.1)  # the second one's loss is not finite within an epoch


def job(lr: float, every: int = 3) -> Experiment:
    optimizer = {"_target_": "torch.optim.SGD", "lr": lr}
    model = harness.small_model(torch.float32, norm=False)
    made = fused.job(model=model, optimizer=optimizer, epochs=7, precision="32-true")
    return replace(made, measure=MeasureSettings(every=every))


def trained(jobs: list[Experiment], folder: Path) -> tuple[list[RunTracker], dict[int, JobResult]]:
    specs = [RunSpec(f"run {n}", folder / str(n), {}, {}, {}) for n in range(len(jobs))]
    trackers, results = open_runs(harness.NOWHERE, specs), {}
    module = PackModule(Pack(jobs))
    best = Best(module.pack, "val/loss")
    finalizer = PackFinalizer(module, trackers, best, results.__setitem__)
    finalizer.recorder = PackRecorder(module, best, trackers, None, finalizer.end)
    numbers = tuple(map(str, range(len(jobs))))
    kept = Manifest("", tuple(map(int, numbers)), tuple(str(spec.folder) for spec in specs), numbers, numbers)
    fit_pack(module, finalizer.recorder, kept)
    finalizer.end(dict.fromkeys(finalizer.unfinished()))
    return trackers, results


def recorded(tracker: RunTracker) -> dict[tuple[str, int], float]:
    rows = {(row.key, row.step): row.value for row in tracker.journal.rows()}
    return {key: value for key, value in rows.items() if not key[0].startswith("system/")}


def test_a_member_that_diverges_between_two_measurements_costs_its_neighbours_nothing(tmp_path: Path) -> None:
    trackers, results = trained([job(lr) for lr in RATES], tmp_path)
    assert {index: result.status for index, result in results.items()} == {
        0: "FINISHED", 1: "FAILED", 2: "FINISHED", 3: "FINISHED",
    }  # fmt: skip  # a job a word, in order
    with pytest.raises(Diverged) as alone_fails:
        fit(
            job(RATES[1]),
            open_run(harness.NOWHERE, name="fails", folder=tmp_path / "fails", config={}, params={}, tags={}),
        )
    assert results[1].message == str(alone_fails.value)
    for index in (0, 2, 3):
        alone = open_run(
            harness.NOWHERE, name="alone", folder=tmp_path / f"alone{index}", config={}, params={}, tags={}
        )
        fit(job(RATES[index]), alone)
        expected, actual = recorded(alone), recorded(trackers[index])
        actual = {key: value for key, value in actual.items() if not key[0].startswith("final/")}
        assert actual.keys() == expected.keys()  # also objective/task at epochs 3, 6 and 7
        for key, value in expected.items():
            assert actual[key] == pytest.approx(value, rel=1e-3, abs=1e-5), key


def test_a_pack_in_which_all_diverge_ends(tmp_path: Path) -> None:
    _, results = trained([job(3e38), job(2e38)], tmp_path)
    assert [result.status for _, result in sorted(results.items())] == ["FAILED", "FAILED"]


def test_a_model_whose_loss_is_not_finite_before_any_step_is_not_blamed_on_the_learning_rate(tmp_path: Path) -> None:
    def broken() -> Experiment:
        made = job(0.05)
        with torch.no_grad():
            next(made.model.parameters()).fill_(torch.inf)  # inf times inputs of both signs is nan
        return made

    with pytest.raises(
        Diverged, match=r"the training loss of the untrained model is not finite, so no learning"
    ) as alone:
        fit(broken(), open_run(harness.NOWHERE, name="fails", folder=tmp_path / "fails", config={}, params={}, tags={}))
    _, results = trained([job(0.05), broken(), job(0.02)], tmp_path)
    assert [results[index].status for index in range(3)] == ["FINISHED", "FAILED", "FINISHED"]
    assert results[1].message == str(alone.value)
