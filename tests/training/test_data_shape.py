"""``data.shape=auto``: the data in the shape that the model reads; a shape that is given wins."""

import inspect

import pytest
from omegaconf import OmegaConf
from torch import nn

from reglab import models
from reglab.config.fingerprint import READ_IMAGES, computed_part
from reglab.core.errors import UserError
from reglab.training import describe
from reglab.training.data_shape import with_data_shape
from reglab.training.fused.job import prepare_jobs
from reglab.training.prepare import build_experiment
from training.job_case import config

TINY = ("model.channels=[2,3]",)


class TakesChannels(nn.Module):
    def __init__(self, in_channels, num_classes):
        super().__init__()


class Declares(nn.Module):
    reads = "image"

    def __init__(self, outputs):
        super().__init__()


class SaysNothing(nn.Module):
    def __init__(self, outputs):
        super().__init__()


def fingerprint(local):
    return describe.fingerprint(describe.plain(local), "d")


@pytest.mark.parametrize(
    "data, model, shape",
    [
        ("digits", "cnn", "image"),
        ("digits", "mlp", "flat"),
        ("digits", "linear", "flat"),
        ("digits", "timm", "image"),
        ("digits", "transformers", "image"),
        ("mnist1d", "cnn", "image"),
        ("mnist1d", "mlp", "flat"),
    ],
)
def test_each_model_gets_its_shape_with_the_fingerprint_of_the_shape_by_hand(data, model, shape):
    local = config(f"data={data}", f"model={model}")
    assert local.data.shape == "auto"
    actual = with_data_shape(local)
    assert actual.data.shape == shape
    assert local.data.shape == "auto"  # it is the caller's
    by_hand = config(f"data={data}", f"model={model}", f"data.shape={shape}")
    assert {fingerprint(each) for each in (local, actual, by_hand)} == {fingerprint(by_hand)}


@pytest.mark.parametrize("shape", ["flat", "image"])
def test_a_shape_that_is_given_wins(shape):
    for model in ("cnn", "mlp"):
        assert with_data_shape(config("data=digits", f"model={model}", f"data.shape={shape}")).data.shape == shape


def test_data_that_come_in_one_shape_are_left_alone():
    for data in ("wine", "tokens"):
        local = config(f"data={data}", "model=cnn")
        assert with_data_shape(local) is local


@pytest.mark.parametrize("cls, shape", [(TakesChannels, "image"), (Declares, "image"), (SaysNothing, "flat")])
def test_a_class_of_the_users_own_tells_by_its_attribute_or_its_arguments(cls, shape, monkeypatch):
    monkeypatch.setenv("REGLAB_TRUST", __name__.partition(".")[0])
    local = config("data=digits", "model=custom", f"model._target_={__name__}.{cls.__name__}")
    assert with_data_shape(local).data.shape == shape


def test_the_list_of_those_that_read_images_is_that_of_the_classes():
    classes = [cls for _, cls in inspect.getmembers(models, inspect.isclass)]
    assert {cls.__name__ for cls in classes if models.reads(cls, {}) == "image"} == set(READ_IMAGES)


def test_solo_and_fused_jobs_are_built_with_images():
    jobs = [config("data=digits", "model=cnn", *TINY, f"seed={seed}") for seed in (0, 1)]
    prepared = prepare_jobs(jobs)
    experiments = [each.experiment for each in prepared]
    assert [each.job["data"]["shape"] for each in prepared] == ["image", "image"]
    assert [experiment.data.input_shape for experiment in experiments] == [(1, 8, 8)] * 2
    assert experiments[0].description["config"]["data"]["shape"] == "image"  # what the checkpoint tells
    both = [computed_part(describe.plain(config("data=digits", f"model={model}"))) for model in ("mlp", "cnn")]
    assert [each["data"]["shape"] for each in both] == ["flat", "image"]


def test_a_cnn_on_a_table_is_refused_with_the_way_out():
    job = describe.plain(with_data_shape(config("data=wine", "model=cnn")))
    from reglab import data

    with pytest.raises(UserError, match=r"a row of a table has no positions to convolve over, so use model=mlp"):
        build_experiment(job, data.load(job["data"]), job)


def test_a_config_without_a_model_is_left_to_who_builds_it():
    local = OmegaConf.create({"data": {"name": "digits", "shape": "auto"}, "model": {"_target_": "???"}})
    assert with_data_shape(local) is local
