"""Law: two data-parallel processes train to the weights of one process on the joint batch."""

import subprocess
import sys
from pathlib import Path

import laws_harness as harness
import pytest
import torch
from two_ranks import job


@pytest.fixture(scope="module")
def weights_of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    script = Path(__file__).parent / "two_ranks.py"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    ended = subprocess.run([*launch, str(script), str(folder)], capture_output=True, text=True, cwd=folder, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return folder


@pytest.mark.parametrize("name", harness.NAMES)
def test_two_ranks_equal_one_process_on_the_joint_batch(name: str, weights_of_two: Path) -> None:
    two = torch.load(weights_of_two / f"{name}.pt", weights_only=True)
    one = harness.trained(job(name, 1))
    for key, value in harness.weights_of(one).items():
        torch.testing.assert_close(two[key], value, rtol=1e-9, atol=1e-11, msg=lambda told, key=key: f"{key}: {told}")


def test_a_signal_to_one_rank_ends_both_after_the_same_step_and_both_go_on(weights_of_two: Path) -> None:
    for rank in (0, 1):
        assert (weights_of_two / f"ended-{rank}.txt").read_text() == "15 6"
    whole, resumed = (torch.load(weights_of_two / f"{name}.pt", weights_only=True) for name in ("ema", "cut"))
    harness.assert_same_bits(whole, resumed)
