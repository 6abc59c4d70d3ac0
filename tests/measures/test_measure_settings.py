from pathlib import Path

import pytest
from omegaconf import OmegaConf

from reglab.config.instantiate import construct
from reglab.core.errors import UserError
from reglab.measures import MeasureSettings

YAML = Path(__file__).parents[2] / "conf" / "train.yaml"


def test_the_yaml_names_every_option_with_its_default():
    config = OmegaConf.to_container(OmegaConf.load(YAML).measure)
    settings = construct(MeasureSettings, config, "measure")
    assert settings == MeasureSettings()
    assert set(config) == set(MeasureSettings.__dataclass_fields__) - {"measures"}
    assert isinstance(settings.near_zero, float)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"every": 0}, "measure.every=0 must be an integer >= 1"),
        ({"scores": "auroc"}, r"measure.scores=auroc must be a list of scores, such as \[auroc,f1\]"),
        ({"scores": ["aroc"]}, "measure.scores=aroc is no score; did you mean 'auroc'"),
        ({"probe_rows": 1}, "measure.probe_rows=1 must be an integer >= 2"),
        ({"level": 1.0}, "measure.level=1.0 must be between 0 and 1"),
        ({"level": "high"}, "measure.level=high must be a number"),
        ({"near_zero": -1e-3}, "measure.near_zero=-0.001 must be >= 0"),
        ({"monitor": "loss"}, "measure.monitor=loss must be measured on the validation part"),
        ({"score": ["f1"]}, "measure.score: .*did you mean 'scores'"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(UserError, match=message):
        construct(MeasureSettings, options, "measure")
