"""Paths of real trainings: against scikit-learn's, against cold starts, and launched again."""

import shutil
from collections.abc import Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import lasso_path

from reglab import data
from training.job_case import Case, close, config

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")  # MLflow's own
STRENGTHS = (0.02, 0.15, 0.6)
# Full batch, plain numbers, double precision: a convex problem that a few hundred steps solve.
CONVEX = (
    *("data=sparse_regression", "data.features=20", "data.batch_size=1000", "model=linear", "optimizer=momentum"),
    *("optimizer.lr=0.1", "trainer.precision=64-true", "trainer.accelerator=cpu", "trainer.max_epochs=300"),
    *("measure.every=300", "measure.per_layer=false", "regularizer=[l1]"),
)
SWEPT = f"regularizer.l1.strength={','.join(map(str, STRENGTHS))}"
QUICK = ("hydra.launcher.workers=1", "sweep.test=false")


@pytest.fixture
def case(template: Path, tmp_path: Path) -> Iterator[Case]:
    shutil.copy(template, tmp_path / "reglab.db")
    yield Case(tmp_path)
    close(tmp_path)


def sweep(case: Case, *words: str) -> tuple[int, str]:
    """Return exit code and what was said."""
    from reglab.cli.train import train

    with chdir(case.folder), redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as told:
        code = train(["-m", *CONVEX, *QUICK, *words])
    return code, out.getvalue() + told.getvalue()


def jobs(case: Case) -> dict[str, list[object]]:
    """The attempts at each job, in order of start."""
    found: dict[str, list[object]] = {}
    for run in sorted(case.runs(), key=lambda run: run.info.start_time):
        if run.data.tags["reglab.kind"] == "job":
            found.setdefault(run.data.tags["reglab.job"], []).append(run)
    return found


def solution(case: Case, run) -> np.ndarray:
    state = torch.load(case.artifacts(run.info.run_id) / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    (weight,) = [tensor for name, tensor in state.items() if name.startswith("model.") and tensor.ndim == 2]
    return weight.flatten().numpy()


def scikit(strengths) -> dict[float, np.ndarray]:
    """scikit-learn halves the mean squared error: alpha is half the strength."""
    part = data.load(config(*CONVEX).data).train
    design, target = part.inputs.double().numpy(), part.targets.double().numpy().ravel()
    design, target = design - design.mean(0), target - target.mean()
    alphas = sorted((strength / 2 for strength in strengths), reverse=True)
    _, found, _ = lasso_path(design, target, alphas=alphas, tol=1e-14, max_iter=1_000_000)
    return {2 * alpha: found[:, place] for place, alpha in enumerate(alphas)}


@pytest.mark.parametrize("direction, launcher", [("up", "fused"), ("down", "local")])
def test_every_point_of_a_path_is_scikit_learns(case: Case, direction: str, launcher: str) -> None:
    more = (
        ["sweep.seeds=2", "hydra.launcher.compile=false", "hydra.launcher.always=true"] if launcher == "fused" else []
    )
    code, said = sweep(case, SWEPT, f"sweep.path={direction}", f"hydra/launcher={launcher}", *more)
    assert code == 0, said
    assert said.count("warm-started") == 1
    assert f"sweep.path={direction}" in " ".join(said.split())
    expected = scikit(STRENGTHS)
    runs = {job: run for job, (run,) in jobs(case).items()}
    for job, run in runs.items():
        strength = float(run.data.params["regularizer.l1.strength"])
        found = solution(case, run)
        np.testing.assert_allclose(found, expected[strength], atol=1e-6, rtol=0)
        assert ((found == 0) == (expected[strength] == 0)).all()
        place = int(job) % len(STRENGTHS)
        before = place - 1 if direction == "up" else place + 1
        first = not 0 <= before < len(STRENGTHS)
        neighbour = None if first else runs[str(int(job) - place + before)].info.run_id
        assert run.data.tags.get("reglab.start") == neighbour
        assert run.data.tags.get("reglab.fused") == ("2" if launcher == "fused" else None)
    assert len({run.data.tags["reglab.fingerprint"] for run in runs.values()}) == len(runs)


def test_a_path_is_nearer_the_solution_than_cold_starts_after_as_many_steps(case: Case) -> None:
    near = (0.1, 0.08, 0.06)
    swept = f"regularizer.l1.strength={','.join(map(str, near))}"
    few = ("optimizer=sgd", "trainer.max_epochs=20", "measure.every=20", swept, "hydra/launcher=local")
    for words in (["sweep.path=down"], []):
        assert (
            "resuming the sweep" not in sweep(case, *few, "sweep.report=false", *words)[1]
        )  # the same jobs, but another sweep
    expected = scikit(near)
    errors = {
        job: [np.abs(solution(case, run) - expected[near[int(job)]]).max() for run in attempts]
        for job, attempts in jobs(case).items()
    }
    assert errors["0"][0] == errors["0"][1]  # the first of a path starts as it would alone
    assert all(path < cold / 2 for path, cold in (errors["1"], errors["2"]))


def test_a_path_that_is_launched_again_goes_on_from_what_is_finished(case: Case) -> None:
    words = (SWEPT, "sweep.path=up", "trainer.max_epochs=20", "measure.every=20", "hydra/launcher=local")
    assert sweep(case, *words, "sweep.report=false")[0] == 0
    before = {job: run for job, (run,) in jobs(case).items()}
    for job in ("1", "2"):
        case.client.set_terminated(before[job].info.run_id, "FAILED")
    code, said = sweep(case, *words)
    assert (code, "1 of 3 jobs is finished, 2 to run" in said) == (0, True)
    after = jobs(case)
    assert {job: len(attempts) for job, attempts in after.items()} == {"0": 1, "1": 2, "2": 2}
    starts = [after[job][-1].data.tags["reglab.start"] for job in ("1", "2")]
    assert starts == [before["0"].info.run_id, after["1"][-1].info.run_id]
    for job in ("1", "2"):
        first, second = (solution(case, run) for run in after[job])
        assert (first == second).all()
    assert "3 of 3 jobs are finished, 0 to run" in sweep(case, *words)[1]
