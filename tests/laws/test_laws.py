"""The laws that every regularizer obeys, found by its yaml in conf/regularizer."""

import json
import os
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import laws_harness as harness
import pytest
import torch
from torch import nn

from reglab.core.errors import UserError
from reglab.regularizers import Batch, Cocktail
from reglab.tracking.journal import Journal

every_method = pytest.mark.parametrize("name", harness.NAMES)


@every_method
def test_neutral_value_trains_bit_identically_to_no_regularizer(name: str) -> None:
    regularizers = harness.members(name)
    if any(member.neutral is None for member in regularizers.values()):
        pytest.fail(f"{name} declares no neutral value: say in this test why there is none")
    neutral = {key: value for member in regularizers.values() for key, value in (member.neutral or {}).items()}
    bare = harness.trained(harness.experiment({}))
    with_neutral = harness.trained(harness.experiment(harness.members(name, **neutral)))
    harness.assert_same_bits(harness.weights_of(bare), harness.weights_of(with_neutral))


@pytest.mark.parametrize("name", [name for name in harness.NAMES if name not in ("none", "ema", "early_stopping")])
def test_it_changes_training_at_the_strength_of_these_laws(name: str) -> None:
    bare = harness.trained(harness.experiment({}))
    changed = harness.trained(harness.experiment(harness.members(name)))
    assert not torch.equal(bare["model.0.weight"], changed["model.0.weight"])


@every_method
@pytest.mark.parametrize("step", [3, 4, 6])  # 4 steps an epoch: inside the first, at its end, inside the second
def test_resuming_at_any_step_equals_going_on(name: str, step: int, tmp_path: Path) -> None:
    def make() -> harness.Experiment:
        return harness.experiment(
            harness.members(name), optimizer={"_target_": "torch.optim.Adam", "lr": 0.01}, batch_size=12
        )

    uninterrupted = harness.trained(make())
    harness.assert_same_bits(uninterrupted, harness.cut_and_resumed(make, step, tmp_path))


@pytest.mark.parametrize("name", ["none", "ema", "early_stopping"])
def test_a_resumed_run_measures_what_it_would_have_measured(name: str, tmp_path: Path) -> None:
    def make() -> harness.Experiment:
        return harness.experiment(harness.members(name), batch_size=12)

    harness.trained(make(), tmp_path / "whole")
    harness.cut_and_resumed(make, 6, tmp_path)  # in the second of three epochs
    whole, resumed = (
        {(row.key, row.step): row.value for row in Journal(tmp_path / folder / "journal.jsonl").rows()}
        for folder in ("whole", "b")
    )
    measured = {key for key in whole if key[0].split("/")[0] in ("train", "val", "gap", "weights") and key[1] >= 2}
    assert any(key == ("weights/all/distance", 3) for key in measured)
    assert {key: resumed[key] for key in measured} == {key: whole[key] for key in measured}


class _OwnDraws(nn.Module):
    """A model that draws from torch's generator, in two ways that nobody can replace."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(harness.FEATURES, 4, num_layers=2, dropout=0.5, batch_first=True)
        self.head = nn.Linear(4, harness.CLASSES)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden, _ = self.recurrent(inputs[:, None])
        return self.head(nn.functional.dropout(hidden[:, 0], 0.3, self.training))


@pytest.mark.parametrize("name", ["none", "sam"])
def test_a_model_that_draws_from_a_generator_resumes_too_and_leaves_the_users_generator_alone(
    name: str, tmp_path: Path
) -> None:
    def make() -> harness.Experiment:
        torch.manual_seed(0)
        return harness.experiment(harness.members(name), model=_OwnDraws())

    uninterrupted = harness.trained(make())
    before = torch.get_rng_state()
    harness.trained(harness.experiment({}))
    assert torch.equal(torch.get_rng_state(), before)
    harness.assert_same_bits(uninterrupted, harness.cut_and_resumed(make, 6, tmp_path))


@every_method
def test_same_seed_same_result_and_chunks_do_not_matter(name: str) -> None:
    first = harness.trained(harness.experiment(harness.members(name), steps_per_batch=1))
    second = harness.trained(harness.experiment(harness.members(name), steps_per_batch=3))
    harness.assert_same_bits(first, second)


@every_method
def test_the_data_are_not_changed(name: str) -> None:
    job = harness.experiment(harness.members(name))
    harness.trained(job)
    fresh = harness.blobs()
    for part in ("train", "val", "test"):
        for field in ("inputs", "targets", "index", "weights"):
            assert torch.equal(getattr(getattr(job.data, part), field), getattr(getattr(fresh, part), field))


@every_method
def test_evaluation_outputs_are_those_of_the_bare_model(name: str) -> None:
    model, inputs = harness.small_model().eval(), harness.blobs().val.inputs
    before = model(inputs)
    prepared = Cocktail(harness.members(name), 0, "classification").prepare(model).eval()
    assert torch.equal(prepared(inputs), before)


@every_method
@pytest.mark.parametrize("precision", ["32-true", "bf16-true", "bf16-mixed", "64-true"])
def test_finite_in_every_precision_and_numbers_are_not_cast(name: str, precision: str) -> None:
    job = harness.experiment(harness.members(name), trainer={"precision": precision})
    before = {key: value.dtype for key, value in job.cocktail.state_dict().items()}
    state = harness.trained(job)
    assert all(torch.isfinite(value).all() for value in harness.weights_of(state).values())
    for key, dtype in before.items():
        assert job.cocktail.state_dict()[key].dtype == dtype


@every_method
def test_a_term_that_it_adds_is_logged(name: str, tmp_path: Path) -> None:
    job = harness.experiment(harness.members(name))
    model = harness.small_model()
    cocktail = Cocktail(harness.members(name), 0, "classification")
    cocktail.prepare(model)
    part = job.data.train
    batch = Batch(part.inputs, [(torch.ones(()), part.targets)], part.index)
    outcome = cocktail.objective(lambda outputs, target: torch.nn.functional.cross_entropy(outputs, target))(
        model, batch
    )
    added = outcome.terms.keys() | cocktail.penalties(dict(model.named_parameters())).keys()
    harness.trained(job, tmp_path)
    logged = {row.key for row in Journal(tmp_path / "journal.jsonl").rows()}
    assert {f"objective/{term}" for term in added} <= logged
    assert "objective/task" in logged


def projecting() -> list[str]:
    """Return the methods whose ``on_step`` moves weights by what they are, without any step size: projections."""
    found = []
    for name in harness.NAMES:
        cocktail = Cocktail(harness.members(name), 0, "classification")
        model = cocktail.prepare(harness.small_model(torch.float64))
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(100)
        before = [weight.detach().clone() for weight in model.parameters()]
        cocktail.after_step(model, {key: torch.zeros(()) for key, _ in model.named_parameters()})
        if any(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True)):
            found.append(name)
    return found


def test_max_norm_is_among_the_projections() -> None:
    assert "max_norm" in projecting()


@pytest.mark.parametrize("averaging_first", [True, False])
@pytest.mark.parametrize("name", projecting())
@pytest.mark.parametrize("warmup", [9.0, 1.0, 0.0])
def test_averaged_weights_are_inside_what_is_projected_onto(name: str, averaging_first: bool, warmup: float) -> None:
    pairs = [harness.members("ema", warmup=warmup), harness.members(name)]
    first, second = pairs if averaging_first else pairs[::-1]
    job = harness.experiment({**first, **second}, epochs=2, batch_size=22)  # few steps: what was before counts most
    with torch.no_grad():
        for weight in job.model.parameters():
            weight.mul_(5)  # far outside at the start
    harness.trained(job)
    job.model.requires_grad_(True)
    judged = {key: weight.detach().clone() for key, weight in job.model.named_parameters()}
    again = Cocktail(harness.members(name), 0, "classification")
    again.after_step(again.prepare(job.model), {key: torch.zeros(()) for key in judged})
    for key, weight in job.model.named_parameters():
        torch.testing.assert_close(weight.detach(), judged[key], rtol=1e-6, atol=0)


@pytest.mark.parametrize("first,second", list(combinations([name for name in harness.NAMES if name != "none"], 2)))
def test_every_pair_composes_or_is_refused_with_a_reason(first: str, second: str) -> None:
    both = {**harness.members(first), **harness.members(second)}
    if refusal := _refusal(both):
        assert first in refusal
        assert second in refusal
        return
    state = harness.trained(harness.experiment(both, epochs=1))
    assert all(torch.isfinite(value).all() for value in state.values() if value.ndim)


def _refusal(members: dict) -> str:
    try:
        Cocktail(members, 0, "classification")
    except UserError as error:
        return str(error)
    return ""


def test_every_method_has_an_oracle_that_notices_a_method_that_does_nothing(tmp_path: Path) -> None:
    tests = Path(__file__).parents[1]
    files = {name: tests / "regularizers" / f"test_{name}.py" for name in harness.NAMES if name != "none"}
    missing = [name for name, file in files.items() if not file.exists()]
    assert not missing, f"no independent oracle for {missing}: write tests/regularizers/test_<name>.py"
    words = [
        "-m",
        "pytest",
        "-p",
        "idle_methods",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        *map(str, files.values()),
    ]
    told = tmp_path / "noticed.json"
    environment = {**os.environ, "IDLE_METHODS_FAILED": str(told), "PYTHONPATH": str(Path(__file__).parent)}
    subprocess.run([sys.executable, *words], cwd=tests.parent, env=environment, capture_output=True, check=False)
    unnoticed = sorted(set(files) - set(json.loads(told.read_text())))
    assert not unnoticed, f"no test of {unnoticed} fails where the method does nothing: compare with an oracle"


def test_a_resumed_run_whose_best_checkpoint_is_gone_ends_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The harness resumes in another folder, and under this learning rate no later epoch is a new best."""
    harness.cut_and_resumed(
        lambda: harness.experiment({}, optimizer={"_target_": "torch.optim.SGD", "lr": 8.0}, batch_size=12), 6, tmp_path
    )
    assert "best.ckpt was deleted while the run trained" in caplog.text
