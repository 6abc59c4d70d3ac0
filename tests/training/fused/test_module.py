"""What a pack reports of its training: mean terms, and the accounts of members that ended."""

from pathlib import Path

import fused_harness as fused
import laws_harness as harness
import torch


def make(number: int, **recipe):
    return fused.job(harness.members("l2", strength=0.1 * number), seed=number, epochs=1, **recipe)


def test_mean_terms_are_each_jobs_own_over_the_epochs_examples() -> None:
    module = fused.together([make(number, batch_size=12) for number in range(2)])  # the last batch is smaller
    means = module.mean_terms()
    assert means.keys() == {"objective/task", "objective/l2"}
    for number in range(2):
        solo = fused.alone(make(number, batch_size=12))
        for name, mean in solo.terms.take().items():
            torch.testing.assert_close(means[f"objective/{name}"][number], mean, rtol=1e-9, atol=0)
    assert module.mean_terms() == {}


def test_a_checkpoint_is_made_of_plain_values(tmp_path: Path) -> None:
    fused.together([make(0), make(1)], fused.SaveAt(4, tmp_path / "pack.ckpt"))
    saved = torch.load(tmp_path / "pack.ckpt", weights_only=True)["pack"]
    assert saved["places"] == [0, 1]
    assert saved["dead"] == []
    assert (saved["compiled"], saved["lowering"]) == (False, {})
    assert int(saved["stack"]["shared"]["cocktail.keys.step"]) == 4
