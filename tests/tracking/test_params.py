import yaml

from reglab.tracking.params import flatten, shorten, shown, write_config


def test_nested_params_get_dotted_keys_and_values_as_typed():
    nested = {
        "seed": 3,
        "optimizer": {"lr": 1e-05, "nesterov": False, "name": "sgd"},
        "regularizer": {"l1": {"strength": 0.1}},
        "data": {"drop": [], "target": ["a", "b"], "group": None, "options": {}},
    }
    assert flatten(nested) == {
        "seed": "3",
        "optimizer.lr": "1e-05",
        "optimizer.nesterov": "false",
        "optimizer.name": "sgd",
        "regularizer.l1.strength": "0.1",
        "data.drop": "[]",
        "data.target": '["a", "b"]',
        "data.group": "null",
        "data.options": "{}",
    }


def test_long_values_are_kept_whole_beside_the_short_ones():
    short, long = shorten({"a": "x" * 10, "b": "y" * 11}, limit=10, artifact="params_long.json")
    assert short == {"a": "x" * 10, "b": "11 characters: see the artifact params_long.json"}
    assert long == {"b": "y" * 11}


def test_a_config_is_written_without_the_secrets_that_it_refers_to(tmp_path, monkeypatch):
    monkeypatch.setenv("PASSWORD", "hunter2")
    config = {"data": {"path": "s3://${oc.env:PASSWORD}@bucket", "rows": 3}, "name": "${data.rows}"}
    write_config(tmp_path / "config.yaml", config, {})
    text = (tmp_path / "config.yaml").read_text()
    assert "hunter2" not in text
    assert yaml.safe_load(text) == config


def test_where_a_run_is_recorded_is_no_param():
    config = {"name": "mine", "trust": ["a"], "tracking": {"uri": None}, "named": 1, "data": {"name": "wine"}}
    assert shown(config) == {"named": 1, "data": {"name": "wine"}}
    assert shown(flatten(config)) == {"named": "1", "data.name": "wine"}
