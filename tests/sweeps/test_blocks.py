"""From blocks, seeds and the command line to jobs."""

import pytest
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from reglab.config.paths import conf_dir
from reglab.core.errors import UserError
from reglab.sweeps.blocks import expand

L1 = {"regularizer": ["l1"], "regularizer.l1.strength": "1,2"}


def test_blocks_stand_beside_each_other_and_cross_the_rest():
    jobs = expand(["data=wine,digits"], [{"regularizer": []}, L1], seeds=2)
    assert [job.number for job in jobs] == list(range(2 * 2 * (1 + 2)))
    assert [job.block for job in jobs] == (["none"] * 2 + ["l1"] * 4) * 2
    assert jobs[5].overrides == ("data=digits", "regularizer=[l1]", "regularizer.l1.strength=2", "seed=0")
    assert [job.overrides[-1] for job in jobs] == ["seed=0"] * 6 + ["seed=1"] * 6


def test_without_blocks_the_label_is_the_chosen_regularizers():
    assert [job.block for job in expand(["regularizer=[],[l1,l2],none,dropout"])] == [
        "none",
        "l1+l2",
        "none",
        "dropout",
    ]
    assert [job.block for job in expand(["optimizer.lr=1,2"], regularizers=["ema"])] == ["ema", "ema"]


def test_blocks_with_the_same_regularizers_get_labels_of_their_own():
    blocks = [L1 | {"optimizer": "sgd", "a": 1}, L1 | {"optimizer": "adam", "a": 1}, {"regularizer": "l2"}]
    labels = [job.block for job in expand([], [*blocks, blocks[0]])]
    assert labels == ["l1 (optimizer=sgd)"] * 2 + ["l1 (optimizer=adam)"] * 2 + ["l2"] + ["l1 (optimizer=sgd) #2"] * 2


def test_the_sweepers_own_keys_are_not_sent_to_jobs():
    assert expand(["sweep.seeds=3", "sweep.blocks=[]", "a=1"])[0].overrides == ("a=1",)


@pytest.mark.parametrize(
    "value",
    [1, 1e-5, -2.5, True, None, "plain", "two words", "a=b", ["x", "y z", "null"], {"k": [1, "v,w"]}, [], [[1], []]],
    ids=repr,
)
def test_a_blocks_value_reaches_the_config_unchanged(hydra, value):
    text = (
        f"'{value}'" if isinstance(value, str) else value
    )  # text is read as on the command line, where = wants quotes
    job = expand([], [{"+new": text}])[0]
    config = hydra.compose_config("train", list(job.overrides), RunMode.RUN, with_log_configuration=False)
    new = config.new
    assert (OmegaConf.to_container(new) if OmegaConf.is_config(new) else new) == value


@pytest.mark.parametrize(
    "arguments, blocks, seeds, message",
    [
        (["regularizer=[l2]"], [L1], None, r"regularizer is set twice.*sweep.blocks\[0\]"),
        (["seed=3"], [], 2, "seed is set twice.*sweep.seeds"),
        ([], [{"seed": 1}], [0, 1], "seed is set twice"),
        ([], [["l1"]], None, "must be a mapping"),
        ([], [{"a": "[1"}], None, r"cannot read a: '\[1'"),
        ([], [{"a": "log(0,1,3)"}], None, "both ends above 0"),
        ([], [], 0, "sweep.seeds"),
        ([], [], ["a"], "sweep.seeds"),
        (["a=interval(0,1)"], [], None, "interval"),
    ],
)
def test_what_cannot_be_expanded_is_told(arguments, blocks, seeds, message):
    with pytest.raises(UserError, match=message):
        expand(arguments, blocks, seeds)


def test_glob_takes_each_option_of_a_group_that_a_user_may_name():
    made = Hydra.create_main_hydra2("reglab", create_config_search_path(str(conf_dir())))
    GlobalHydra.instance().clear()  # which a command sets for itself
    jobs = expand(["data=glob(*)", "regularizer=glob(l*,exclude=*2)"], loader=made.config_loader)
    files = {path.stem for path in (conf_dir() / "data").glob("[!_]*.yaml")}
    chosen = {f"regularizer={path.stem}" for path in (conf_dir() / "regularizer").glob("l*.yaml")}
    assert {job.overrides[0] for job in jobs} == {f"data={name}" for name in files}
    assert {job.overrides[1] for job in jobs} == chosen - {"regularizer=l2"}
    assert len(jobs) == len(files) * (len(chosen) - 1)
