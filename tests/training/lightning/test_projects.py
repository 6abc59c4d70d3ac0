"""Modules in the manner of real projects train as they are, resume with the same bits, and have their gap."""

import pytest
import torch
from torch.nn import functional

from reglab.training import restore
from training.job_case import Case
from training.lightning.module_case import Cut, Run, rows, state
from training.lightning.projects import Made, padded

PROJECTS = {"UNet": "images", "TwoTowers": "pairs", "GPT": "texts"}


def given(name: str) -> list[str]:
    home = "training.lightning.projects"
    return [
        "model=lightning", f"model._target_={home}.{name}", "data=lightning", f"data._target_={home}.MadeData",
        f"+data.kind={PROJECTS[name]}", "tracking=none", "trainer.max_epochs=4", "trainer.checkpoint_seconds=0",
        "regularizer=[l1,weight_decay,ema]", "regularizer.l1.strength=1e-3", "regularizer.ema.strength=0.5",
    ]  # fmt: skip


@pytest.mark.parametrize("name", PROJECTS)
def test_it_resumes_with_the_same_bits(run: Run, case: Case, name: str) -> None:
    result = run(*given(name), folder="whole")
    with pytest.raises(Cut):
        run(*given(name), folder="cut", cut=2)
    assert run(*given(name), folder="cut").metrics == result.metrics
    whole, cut = state(case.folder / "whole"), state(case.folder / "cut")
    assert all(torch.equal(value, cut[key]) for key, value in whole.items())
    assert rows(case.folder / "cut") == rows(case.folder / "whole")


@pytest.mark.parametrize("methods", ["[sam,l2]", "[flooding]"])
def test_members_that_need_the_loss_have_that_which_the_module_offers(run: Run, case: Case, methods: str) -> None:
    words = [word for word in given("GPT") if not word.startswith("regularizer")]
    run(*words, folder="plain")
    result = run(*words, f"regularizer={methods}", folder="whole")
    with pytest.raises(Cut):
        run(*words, f"regularizer={methods}", folder="cut", cut=2)
    assert run(*words, f"regularizer={methods}", folder="cut").metrics == result.metrics
    plain, whole, cut = (state(case.folder / name) for name in ("plain", "whole", "cut"))
    assert all(torch.equal(value, cut[key]) for key, value in whole.items())
    assert not all(torch.equal(value, plain[key]) for key, value in whole.items())


@pytest.mark.parametrize("name, scores", [("UNet", {"iou"}), ("TwoTowers", {"top1"}), ("GPT", {"perplexity"})])
def test_its_own_numbers_stand_on_both_sides(run: Run, case: Case, name: str, scores: set[str]) -> None:
    result = run(*given(name))
    for score in {"loss", *scores}:
        sides = [result.metrics[f"{side}/{score}"] for side in ("train", "val")]
        higher = score not in ("loss", "perplexity")
        assert result.metrics[f"gap/{score}"] == pytest.approx(sides[0] - sides[1] if higher else sides[1] - sides[0])
    recorded = rows(case.folder / "it")
    assert recorded["val/loss", 4] != recorded["val/loss", 0]


def test_padded_batches_count_as_the_module_counts_them(run: Run, case: Case) -> None:
    result = run(*given("GPT"))
    module = restore.load(case.folder / "it")
    made = Made("texts", 44, 1000)
    losses = []
    for first in range(0, 44, 4):
        batch = padded([made[row] for row in range(first, first + 4)])
        with torch.no_grad():
            outputs = module(batch[:, :-1])
        losses.append(functional.cross_entropy(outputs.flatten(0, 1), batch[:, 1:].flatten(), ignore_index=0))
    assert result.metrics["val/loss"] == pytest.approx(float(torch.stack(losses).mean()), rel=1e-5)
