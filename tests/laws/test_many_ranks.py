"""Law: two or four processes, data-parallel or sharded, train and record what one process does on the joint batch."""

import json
import shutil
from pathlib import Path

import laws_harness as harness
import numpy as np
import pytest
import torch
from many_ranks import CASES, SIGNALLED, STRATEGIES, cases, job, signalled, trained

import forked
from reglab.analysis.per_example_file import FILE
from reglab.analysis.per_example_file import read as read_examples
from reglab.tracking import opening
from reglab.training.checkpoint_files import read
from reglab.training.checkpoints import resumable

RANKS = (2, 4)


@pytest.fixture(scope="module")
def trained_by(tmp_path_factory: pytest.TempPathFactory, alone: Path) -> dict[int, Path]:
    """Return where the cases lie that so many processes trained."""
    return {ranks: _torchrun(ranks, tmp_path_factory.mktemp(f"ranks{ranks}"), alone / "cut") for ranks in RANKS}


def _torchrun(ranks: int, folder: Path, cut: Path) -> Path:
    for strategy in STRATEGIES:
        shutil.copytree(cut / "checkpoints", folder / strategy / "from_one" / "checkpoints")
    forked.torchrun(ranks, [Path(__file__).with_name("many_ranks.py"), folder], cwd=folder)
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the cases lie that one process trained, and ``cut``, which ended in the middle of an epoch."""
    folder = tmp_path_factory.mktemp("alone")
    for case in CASES:
        trained(job(case), folder / case)
    signalled(folder / "cut", job("stopped"))
    return folder


@pytest.mark.parametrize("ranks, case", [(ranks, case) for ranks in RANKS for case in cases(ranks)])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_several_processes_equal_one_on_the_joint_batch(
    case: str, strategy: str, ranks: int, trained_by: dict[int, Path], alone: Path
) -> None:
    several = trained_by[ranks] / strategy
    state, wanted = _last(several / case), _last(alone / case)
    assert state.keys() == wanted.keys()
    tolerance = 1e-5 if case == "float32" else 1e-10
    for key, value in wanted.items():
        torch.testing.assert_close(
            state[key], value, rtol=tolerance, atol=tolerance, msg=lambda told, key=key: f"{key}: {told}"
        )
    rows, wanted_rows = harness.rows_of(several / case), harness.rows_of(alone / case)
    if case == "measured" and strategy == "fsdp":  # without those that need the whole model as a function
        assert len(rows) > len(wanted_rows) / 2
        wanted_rows = {key: wanted_rows[key] for key in rows}
    tolerance = 1e-6 if case == "measured" else tolerance  # of iterations that end before all digits are there
    assert rows.keys() == wanted_rows.keys()
    for key, value in wanted_rows.items():
        assert rows[key] == pytest.approx(value, rel=tolerance, abs=tolerance), key


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_rank_is_left_with_the_whole_trained_model(
    strategy: str, ranks: int, trained_by: dict[int, Path]
) -> None:
    for case in ("none", "ema"):
        models = [
            torch.load(trained_by[ranks] / strategy / f"{case}-{rank}.pt", weights_only=True) for rank in range(ranks)
        ]
        for other in models[1:]:
            harness.assert_same_bits(models[0], other)


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_signal_to_one_rank_ends_all_after_the_same_step_and_they_go_on(
    strategy: str, ranks: int, trained_by: dict[int, Path]
) -> None:
    folder = trained_by[ranks] / strategy
    for rank in range(ranks):
        assert (folder / f"cut-ended-{rank}.txt").read_text() == "15"
    assert int(_last(folder / "from_several")["cocktail.keys.step"]) == 6
    harness.assert_same_bits(_last(folder / "stopped"), _last(folder / "cut"))
    assert harness.rows_of(folder / "cut") == harness.rows_of(folder / "stopped")


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("case", SIGNALLED)
def test_a_run_that_goes_on_under_its_schedule_ends_with_the_same_bits(
    case: str, strategy: str, ranks: int, trained_by: dict[int, Path]
) -> None:
    folder = trained_by[ranks] / strategy
    harness.assert_same_bits(_last(folder / case), _last(folder / SIGNALLED[case]))
    assert harness.rows_of(folder / SIGNALLED[case]) == harness.rows_of(folder / case)


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_training_goes_on_with_another_number_of_devices(
    strategy: str, ranks: int, trained_by: dict[int, Path], alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A run begins here at a checkpoint that another one left.
    monkeypatch.setattr(opening, "check_nothing_overwritten", lambda folder: None)
    by_one = trained_by[ranks] / strategy / "from_several"  # begun there, ended here
    trained(job("stopped"), by_one, resumable(by_one / "checkpoints"))
    wanted = _last(alone / "stopped")
    for folder in (by_one, trained_by[ranks] / strategy / "from_one"):
        torch.testing.assert_close(_last(folder), wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_each_rank_hashes_a_checkpoint_once_and_loads_it_once(
    strategy: str, ranks: int, trained_by: dict[int, Path]
) -> None:
    for rank in range(ranks):
        opened = json.loads((trained_by[ranks] / strategy / f"opened-{rank}.json").read_text())
        assert opened == dict.fromkeys(opened, 2)
        assert {"last.ckpt", "best.ckpt"} <= opened.keys()


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_ranks_that_found_different_checkpoints_are_refused(
    strategy: str, ranks: int, trained_by: dict[int, Path]
) -> None:
    for rank in range(ranks):
        told = (trained_by[ranks] / strategy / f"unshared-{rank}.txt").read_text()
        assert "different checkpoints" in told
        assert "shared file system" in told
    assert "no checkpoint on rank 1" in (trained_by[ranks] / strategy / "unshared-1.txt").read_text()


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_losses_by_example_are_those_of_one_process(
    strategy: str, ranks: int, trained_by: dict[int, Path], alone: Path
) -> None:
    for case in cases(ranks):
        several, one = read_examples(trained_by[ranks] / strategy / case / FILE), read_examples(alone / case / FILE)
        tolerance = 1e-5 if case == "float32" else 1e-9
        for name in ("val_index", "val_loss", "val_score", "probe_index", "probe_loss", "probe_score", "val_outputs"):
            mine, right = getattr(several, name), getattr(one, name)
            np.testing.assert_allclose(mine, right, rtol=max(tolerance, 1e-6 * ("outputs" in name)), atol=tolerance)
        assert several.val_index.tolist() == list(range(harness.ROWS, 2 * harness.ROWS))  # in order, none doubled


def test_copies_of_shards_equal_one_process(trained_by: dict[int, Path], alone: Path) -> None:
    state, wanted = _last(trained_by[4] / "fsdp" / "copies"), _last(alone / "elastic_net")
    for key, value in wanted.items():
        torch.testing.assert_close(state[key], value, rtol=1e-10, atol=1e-10)
    rows, wanted_rows = (harness.rows_of(each) for each in (trained_by[4] / "fsdp" / "copies", alone / "elastic_net"))
    assert {key: pytest.approx(value, rel=1e-10, abs=1e-10) for key, value in wanted_rows.items()} == rows


def _last(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = read(folder / "checkpoints" / "last.ckpt")["state_dict"]
    return state
