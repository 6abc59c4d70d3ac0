import html
import io
import json
import logging
import shlex
import sys
import urllib.parse

import pytest
import yaml
from omegaconf import OmegaConf

from reglab.core import secret_values, secrets
from reglab.core.errors import UserError

VALUE = "S3nt1nel/of \"the' tests&<x>\\"


@pytest.fixture(autouse=True)
def nothing_known():
    with secrets.isolated():
        yield


def learned(monkeypatch, name, value, text=None):
    monkeypatch.setenv(name, value)
    secrets.learn(OmegaConf.create({"a": [{"b": text or f"${{oc.env:{name}}}"}]}))
    return secrets.hide(f"<{value}>")


@pytest.mark.parametrize(
    "text",
    ["${oc.env:A_VALUE}", "${oc.env:A_VALUE,null}", "x/${oc.decode:${oc.env:A_VALUE}}", "${ oc.env: 'A_VALUE' }"],
)
def test_what_an_interpolation_reads_is_hidden(monkeypatch, text):
    assert learned(monkeypatch, "A_VALUE", VALUE, text) == "<***>"


@pytest.mark.parametrize(
    "written",
    [
        str,
        json.dumps,
        repr,
        shlex.quote,
        html.escape,
        urllib.parse.quote,
        urllib.parse.quote_plus,
        lambda text: yaml.safe_dump({"a": text}),
        lambda text: yaml.safe_dump({"a": text}, default_style="'"),
        lambda text: urllib.parse.quote(text, safe=""),
    ],
)
def test_however_it_is_quoted(monkeypatch, written):
    learned(monkeypatch, "A_VALUE", VALUE)
    assert "S3nt1nel" not in secrets.hide(f"before {written(VALUE)} after")


def test_lines_lists_and_urls_are_hidden_in_parts(monkeypatch):
    learned(monkeypatch, "A_KEY", "-----BEGIN KEY-----\nMIIEpAIBAAKCAQEA\n-----END KEY-----")
    assert secrets.hide("    MIIEpAIBAAKCAQEA") == "    ***"
    learned(monkeypatch, "A_LIST", "[first-token, second-token]")
    assert secrets.hide("first-token or second-token") == "*** or ***"
    learned(monkeypatch, "A_STORE", "https://me:pa55@host/path")
    assert secrets.hide("pa55") == "***"
    assert secrets.hide("to https://you:other@host/x") == "to https://you:***@host/x"
    for kept in ("s3://${oc.env:A_NAME}@host", "https://me:${oc.env:A_NAME}@host", "http://127.0.0.1:5000/a@b"):
        assert secrets.hide(kept) == kept


@pytest.mark.parametrize(
    "name, value, hidden",
    [
        ("A_SETTING", "1234567", False),
        ("A_SETTING", "12345678", True),
        ("A_SETTING", "classification", False),
        ("API_KEY", "1234", True),
        ("TOKENIZERS_PARALLELISM", "false", False),
        ("HOME", "/home/somebody", False),
        ("DATA_FOLDER", "/no/such/folder", True),
        ("DATA_FOLDER", "/tmp/", False),
        ("A_SETTING", "", False),
    ],
)
def test_which_values_count(monkeypatch, name, value, hidden):
    assert (learned(monkeypatch, name, value) == "<***>") is hidden


def test_what_is_learned_in_isolation_is_forgotten_and_the_rest_known_again(monkeypatch):
    learned(monkeypatch, "A_VALUE", "known before")
    factory = logging.getLogRecordFactory()
    with secrets.isolated():
        assert secrets.hide("known before") == "known before"
        assert learned(monkeypatch, "A_VALUE", "known inside") == "<***>"
    assert secrets.hide("known before, known inside") == "***, known inside"
    assert logging.getLogRecordFactory() is factory


def test_what_clients_read_by_themselves_is_hidden_at_once(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "pa55")
    assert secrets.hide("user:pa55") == "user:***"
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "another")
    assert secrets.hide("pa55 another") == "*** ***"


def test_user_errors_and_log_records_hide_it(monkeypatch):
    learned(monkeypatch, "A_VALUE", VALUE)
    error = UserError(f"data.path={VALUE} is missing")
    assert str(error) == "data.path=*** is missing"
    stream = io.StringIO()
    handler, logger = logging.StreamHandler(stream), logging.getLogger("reglab.test_secrets")
    monkeypatch.setattr(logger, "handlers", [handler])
    monkeypatch.setattr(logger, "propagate", False)
    try:
        raise KeyError(VALUE)
    except KeyError:
        logger.exception("it was %s, and %d", VALUE, 3)
    logger.error("all of %s", "nothing")
    assert "S3nt1nel" not in stream.getvalue()
    assert "it was ***, and 3" in stream.getvalue()
    assert "KeyError: '***'" in stream.getvalue()
    assert "all of nothing" in stream.getvalue()


def test_what_is_printed_hides_it(monkeypatch, capsys):
    learned(monkeypatch, "A_VALUE", VALUE)
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    secrets.guard_output()
    out, err = sys.stdout, sys.stderr
    secrets.guard_output()
    assert (sys.stdout, sys.stderr) == (out, err)  # once is enough
    print("value", VALUE)
    sys.stderr.writelines(["a\n", VALUE])
    assert sys.stdout.isatty() is False
    assert capsys.readouterr() == ("value ***\n", "a\n***")


@pytest.mark.parametrize(
    "key", ["password", "data.api_key", "x.API_KEY", "hf_token", "aws_secret_access_key", "a.secret"]
)
def test_names_of_secrets(key):
    assert secret_values.is_secret_key(key)


@pytest.mark.parametrize(
    "key", ["pad_token", "max_tokens", "model.cls_token", "tokenizer", "secret.width", "key", "seed"]
)
def test_names_of_no_secrets(key):
    assert not secret_values.is_secret_key(key)


def test_it_is_the_resolver_that_tells_a_value(monkeypatch):
    """However the interpolation is written: no text says which variable it reads."""
    monkeypatch.setenv("A_VALUE", "s3cret-of-this-test")
    secrets.watch()
    config = OmegaConf.create(
        {"which": "A_VALUE", "how": "oc.env", "nested": "${oc.env:${which}}", "dynamic": "${${how}:A_VALUE}"}
    )
    assert secrets.hide("s3cret-of-this-test") == "s3cret-of-this-test"
    assert config.dynamic == "s3cret-of-this-test"
    assert secrets.hide("s3cret-of-this-test") == "***"


@pytest.mark.parametrize(
    "text",
    [
        "${oc.env:${which}}", "${oc.env:NO_SUCH_VARIABLE,${oc.env:A_VALUE}}", "${oc.env:A_VALUE,default}",
        "${oc.decode:${oc.env:${which}}}", "a/${oc.env:'A_VALUE'}/b", "${other}",
    ],
)  # fmt: skip
def test_learning_finds_nested_ones_and_defaults(monkeypatch, text):
    monkeypatch.setenv("A_VALUE", "s3cret-of-this-test")
    config = OmegaConf.create({"which": "A_VALUE", "other": "${oc.env:A_VALUE}", "list": [{"deep": text}]})
    secrets.learn(config)
    assert secrets.hide("s3cret-of-this-test") == "***"


@pytest.mark.parametrize(
    "name, value, hidden",
    [
        ("A_SETTING", "hunter2", True), ("A_SETTING", "abc12", True), ("A_SETTING", "p-w-d", True),
        ("A_SETTING", "ab12", False), ("A_SETTING", "train", False), ("A_SETTING", "resnet", False),
        ("A_SETTING", "0.00125", False), ("A_SETTING", "cuda:0", False), ("A_SETTING", "1e-3", False),
        ("LAB", "http://lab.example.org:5000", False), ("LAB", "https://hooks.example.org/T00/B00/x", True),
        ("LAB", "sqlite:////data/lab.db", False), ("LAB", "http://lab.example.org:5000/?key=1", True),
        ("DB_PASSWORD", "train", True), ("HF_TOKEN", "ab1d", True),
    ],
)  # fmt: skip
def test_short_values_and_addresses(monkeypatch, name, value, hidden):
    assert (learned(monkeypatch, name, value) == "<***>") is hidden


def test_a_secret_too_short_to_be_hidden_is_refused(monkeypatch):
    for name, value in (("DB_PASSWORD", "abc"), ("API_KEY", "1")):
        with pytest.raises(UserError, match=f"{name} is called a secret, and its value has {len(value)} characters"):
            learned(monkeypatch, name, value)
    for name, value in (("MAX_TOKENS", "512"), ("PAD_TOKEN", "0"), ("TOKENIZERS_PARALLELISM", "on"), ("A_SECRET", "")):
        assert learned(monkeypatch, name, value) == f"<{value}>"


def test_another_process_is_told_what_this_one_knows(monkeypatch):
    learned(monkeypatch, "A_VALUE", "s3cret-of-this-test")
    told = secrets.known()
    with secrets.isolated():
        secrets.remember(told)
        assert secrets.hide("s3cret-of-this-test") == "***"


def test_what_is_printed_steers_no_terminal(monkeypatch, capsys):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    secrets.guard_output()
    print("\x1b]0;title\x07 \x1b[6n \x9b2J \u202e \x1b[1mbold\x1b[0m 50%\r\x1b[2K")
    assert capsys.readouterr().out == "\\x1b]0;title\\x07 \\x1b[6n \\x9b2J \\u202e \x1b[1mbold\x1b[0m 50%\r\x1b[2K\n"
    assert str(UserError("run \x1b[2J\rname")) == "run \\x1b[2J\\rname"
