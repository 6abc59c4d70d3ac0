"""Law: a run that a signal ends after any step goes on as if it never had, in its weights and in what it recorded."""

from pathlib import Path

import laws_harness as harness
import pytest

OPTIMIZERS = {
    "sgd": {"_target_": "torch.optim.SGD", "lr": 0.05, "momentum": 0.5},
    "adam": {"_target_": "torch.optim.Adam", "lr": 0.01},
}
STEPS = 12  # 3 epochs of 4 steps, in batches of 3 and 1


def same(name: str, optimizer: str, steps: list[int], folder: Path) -> None:
    def make() -> harness.Experiment:
        return harness.experiment(
            harness.members(name), optimizer=OPTIMIZERS[optimizer], batch_size=12, steps_per_batch=3
        )

    whole = harness.trained(make(), folder / "whole")
    recorded = harness.rows_of(folder / "whole")
    for step in steps:
        harness.assert_same_bits(whole, harness.interrupted_and_resumed(make, step, folder / str(step)))
        assert harness.rows_of(folder / str(step)) == recorded


@pytest.mark.parametrize("name", harness.NAMES)
def test_interrupted_inside_a_batch_and_at_an_epochs_end(name: str, tmp_path: Path) -> None:
    same(name, "adam", [5, 8], tmp_path)


@pytest.mark.parametrize("step", [1, 3, 4, 11, 12])
def test_interrupted_at_the_first_the_last_and_between(step: int, tmp_path: Path) -> None:
    same("early_stopping", "sgd", [step], tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", harness.NAMES)
def test_interrupted_at_every_step(name: str, optimizer: str, tmp_path: Path) -> None:
    same(name, optimizer, list(range(1, STEPS + 1)), tmp_path)
