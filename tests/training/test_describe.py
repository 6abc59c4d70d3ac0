"""What a config names: its fingerprint, its tags, its cocktail."""

from typing import Any

import pytest
from omegaconf import OmegaConf

from reglab.config.job_request import JobRequest
from reglab.core.errors import UserError
from reglab.training import describe
from training.job_case import config

L1, L2 = {"_target_": "reglab.regularizers.L1", "strength": 1e-3}, {"_target_": "reglab.regularizers.L2"}


def fingerprint(*overrides: str, digest: str = "d") -> str:
    return describe.fingerprint(describe.plain(config(*overrides)), digest)


@pytest.mark.parametrize(
    "overrides",
    [
        ["optimizer.lr=0.0100"],
        ["+optimizer.eps=1"],
        ["tracking.uri=sqlite:///other.db", "tracking.experiment=other"],
        ["tracking=none"],
        ["trainer.devices=2", "trainer.accelerator=auto", "trainer.strategy=ddp", "trainer.num_nodes=2"],
        ["trainer.strategy=fsdp", "trainer.shards=2", "trainer.compile=true", "trainer.activation_checkpointing=true"],
        ["~trainer.accumulate_grad_batches", "~trainer.sync_batchnorm"],
        ["trainer.checkpoint_seconds=60"],
        ["+measure.resamples=400", "~measure.scores"],  # as configs were while intervals took a bootstrap
        ["name=another"],
        ["sweep.seeds=5"],
    ],
)
def test_where_it_runs_and_how_a_number_is_written_do_not_count(overrides: list[str]) -> None:
    same = ["+optimizer.eps=1.0"] if "eps" in overrides[0] else []
    assert fingerprint(*overrides) == fingerprint(*same)


@pytest.mark.parametrize(
    "overrides",
    [
        ["seed=1"],
        ["optimizer.lr=0.02"],
        ["data.train_size=50"],
        ["trainer.max_epochs=4"],
        ["regularizer=[l1]"],
        ["regularizer=[dropout]"],
        ["model.width=7"],
        ["trainer.precision=64-true"],
        ["measure.scores=[auroc]"],
    ],
)
def test_what_it_computes_counts(overrides: list[str]) -> None:
    assert fingerprint(*overrides) != fingerprint()


def test_the_data_count_by_their_digest() -> None:
    assert fingerprint(digest="e") != fingerprint(digest="d")


def test_the_order_of_nesting_counts() -> None:
    assert fingerprint("regularizer=[mixup,l1]") != fingerprint("regularizer=[l1,mixup]")


def test_other_kinds_of_values_are_told_apart() -> None:
    actual = [describe.fingerprint({"a": value}, "d") for value in (1, True, "1", 2**53, 2**53 + 1, 1.5, None, [1])]
    assert len(set(actual)) == len(actual)
    assert describe.fingerprint({"a": [1, {"b": 2}]}, "d") == describe.fingerprint({"a": [1.0, {"b": 2.0}]}, "d")


def test_the_fingerprint_is_the_same_in_every_process() -> None:
    """Fixed once and for all: another value here would train every finished run anew."""
    assert describe.fingerprint({"seed": 0, "regularizer": {"l1": {"strength": 0.1}}}, "d") == "141f09a5366b7080"


def test_members_are_built_in_their_order() -> None:
    cocktail = describe.build_cocktail({"b": L2, "a": L1}, 0, "classification")
    assert [name for name, _ in cocktail.named_regularizers()] == ["b", "a"]
    assert describe.build_cocktail(None, 0, "regression").named_regularizers() == []


@pytest.mark.parametrize("node", [None, 3, {"strength": 1}])
def test_what_is_no_member_is_told_how_to_choose_one(node: Any) -> None:
    with pytest.raises(UserError, match=r"regularizer.l3 is not a regularizer: choose it by regularizer=\[l3\]"):
        describe.build_cocktail({"l3": node}, 0, "classification")


@pytest.mark.parametrize(
    "words, label, strength, stronger",
    [
        ([], "none", "", "1"),
        (["regularizer=[l1]", "regularizer.l1.strength=2e-5"], "l1", "2e-05", "1"),
        (["regularizer=[dropout,l1]", "regularizer.dropout.strength=0.25"], "dropout+l1", "0.25", "1"),
        (["regularizer=[early_stopping]", "regularizer.early_stopping.patience=7"], "early_stopping", "7", "-1"),
        (["regularizer=[max_norm]", "regularizer.max_norm.strength=3"], "max_norm", "3", "-1"),
    ],
)
def test_tags_name_the_cocktail_and_its_main_number(words: list[str], label: str, strength: str, stronger: str) -> None:
    job = describe.plain(config(*words))
    cocktail = describe.build_cocktail(job["regularizer"], 0, "regression")
    tags = describe.tags(job, cocktail, "regression", "d", JobRequest(0, parent="p", block=label))
    assert (tags["reglab.regularizer"], tags["reglab.strength"], tags["reglab.stronger"]) == (label, strength, stronger)
    assert (tags["reglab.block"], tags["reglab.score"]) == (label, "r2")
    assert (tags["reglab.sweep"], tags["reglab.job"]) == ("p", "0")
    assert describe.run_name(job, tags) == " ".join(part for part in (label, strength, "seed 0") if part)


def test_a_name_of_the_user_s_own_is_the_run_s_name() -> None:
    job = describe.plain(config("name=mine"))
    assert describe.run_name(job, {}) == "mine"


def test_a_recorded_config_keeps_its_interpolations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LR", "0.5")
    written = OmegaConf.create({"a": {"lr": "${oc.decode:${oc.env:LR}}", "same": "${b}"}, "b": 3})
    recorded = describe.recorded_params(written)
    assert recorded == {"a": {"lr": "${oc.decode:${oc.env:LR}}", "same": "${b}"}, "b": 3}
    assert describe.resolved(recorded, "a") == {"lr": 0.5, "same": 3}
    assert describe.resolved(recorded, "b") == 3
    assert describe.resolved(recorded, "nothing") is None
    monkeypatch.delenv("LR")
    with pytest.raises(UserError, match=r"config of the run, a: .*LR"):
        describe.resolved(recorded, "a")


def test_a_missing_value_is_named() -> None:
    with pytest.raises(UserError, match=r"config: a\.b is not set: give a\.b=\.\.\."):
        describe.plain(OmegaConf.create({"a": {"b": "???"}}))
