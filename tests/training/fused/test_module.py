"""What a pack reports of its training: mean terms, and the accounts of members that ended."""

from pathlib import Path

import fused_harness as fused
import laws_harness as harness
import torch

from reglab.training import checkpoint_files
from reglab.training.experiment import Experiment
from reglab.training.fused.module import PackModule
from reglab.training.fused.pack import Pack


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


def test_a_checkpoint_from_before_averages_had_a_warm_up_and_statistics_is_read() -> None:
    jobs = [fused.job(harness.members("ema", strength=rate), seed=0, epochs=1) for rate in (0.5, 0.9)]
    module, saved = fused.together(jobs), {}
    module.on_save_checkpoint(saved)
    old = saved["pack"]["stack"]["buffers"]
    for name in [name for name in old if "warmup" in name or "average_1__running" in name]:
        del old[name]
    again = PackModule(
        Pack([fused.job(harness.members("ema", strength=rate), seed=0, epochs=1) for rate in (0.5, 0.9)])
    )
    again.on_load_checkpoint(saved)
    actual = again.pack.stack.buffers
    assert actual["cocktail.members.ema.warmup"].tolist() == [9, 9]
    for statistic in ("running_mean", "running_var"):
        kept = actual[f"cocktail.members.ema.average_1__{statistic}"]
        assert torch.equal(kept, module.pack.stack.buffers[f"model.1.{statistic}"])  # what averages were judged with
    assert torch.equal(again.pack.stack.weights["model.0.weight"], module.pack.stack.weights["model.0.weight"])


def test_the_terms_in_a_checkpoint_of_an_older_version_are_read(tmp_path: Path) -> None:
    def jobs() -> list[Experiment]:
        return [make(number, steps_per_batch=1) for number in range(2)]

    path = tmp_path / "pack.ckpt"
    uninterrupted = fused.together(jobs()).mean_terms()
    fused.together(jobs(), fused.SaveAt(2, path))
    content = torch.load(path, weights_only=True)
    values = content["pack"]["terms"].pop("values")
    table = torch.stack([values[number] for number in ("0", "1")], dim=1)  # [steps, terms, members], in one or more
    content["pack"] |= {"terms": [table[:1], table[1:]], "rows": content["pack"]["terms"].pop("rows")}
    checkpoint_files.write(content, path)
    resumed = fused.together(jobs(), resume=path).mean_terms()
    assert resumed.keys() == uninterrupted.keys()
    assert all(torch.equal(resumed[name], mean) for name, mean in uninterrupted.items())
