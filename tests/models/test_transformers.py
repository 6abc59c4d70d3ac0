"""Models of transformers: the package itself where it is installed, which ``scripts/setup dev``
does.
"""

import importlib.util
import json
import sys

import pytest
import torch

from reglab.core.errors import UserError
from reglab.models import build

installed = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers is not installed: it is an extra"
)
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
BERT = {"_target_": "reglab.models.Transformers", "name": "bert", **SMALL}
GPT2 = {"_target_": "reglab.models.Transformers", "name": "gpt2", "n_embd": 16, "n_layer": 2, "n_head": 2}
VIT = {**BERT, "name": "vit", "patch_size": 4}


def ids(*shape):
    return torch.randint(1, 50, shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def silence(caplog, capfd):
    """Nothing may be printed: transformers warns through its logger, not through ``warnings``."""
    yield
    assert caplog.records == []
    assert capfd.readouterr().err == ""


@installed
@pytest.mark.usefixtures("silence")
@pytest.mark.parametrize("node, shape, tokens", [(BERT, (7,), 50), (GPT2, (7,), 50), (VIT, (1, 8, 8), None)])
def test_sizes_come_from_the_data_and_the_answer_is_one_tensor(node, shape, tokens):
    model = build(node, shape, 3, tokens)
    rows = ids(4, *shape) if tokens else torch.randn(4, *shape)
    answer = model(rows)
    assert answer.shape == (4, 3)
    answer.sum().backward()
    assert all(weight.grad is not None for weight in model.parameters() if weight.ndim >= 2)
    assert tokens is None or model.net.config.vocab_size == tokens
    assert model.training


@installed
def test_it_is_what_transformers_makes_of_the_same_config():
    from transformers import AutoConfig, AutoModelForSequenceClassification

    torch.manual_seed(0)
    model = build(BERT, (7,), 3, 50).eval()
    torch.manual_seed(0)
    config = AutoConfig.for_model("bert", num_labels=3, vocab_size=50, **SMALL)
    same = AutoModelForSequenceClassification.from_config(config).eval()
    rows = ids(4, 7)
    assert torch.equal(model(rows), same(rows).logits)


@installed
def test_padding_changes_nothing_where_the_model_has_a_padding_token():
    model = build(BERT, (9,), 3, 50).eval()
    rows = ids(4, 6)
    padded = torch.cat([rows, torch.zeros(4, 3, dtype=torch.int64)], 1)
    torch.testing.assert_close(model(padded), model(rows))
    other = torch.cat([rows, torch.ones(4, 3, dtype=torch.int64)], 1)
    assert not torch.allclose(model(other), model(rows))


@installed
def test_a_causal_model_without_padding_reads_to_the_last_token():
    model = build(GPT2, (6,), 3, 50).eval()
    rows = ids(4, 6)
    rows[:, -1] = 0
    changed = rows.clone()
    changed[:, -1] = 1
    assert not torch.allclose(model(rows), model(changed))


@installed
@pytest.mark.parametrize(
    "node, shape, tokens, message",
    [
        ({**BERT, "name": None}, (7,), 50, r"model\.name is not set.*model\.name=bert"),
        ({**BERT, "name": "brt"}, (7,), 50, r"model\.name=brt is no model type of transformers; did you mean 'bert'"),
        ({**BERT, "hiden_size": 8}, (7,), 50, r"model\.hiden_size is not an option of bert.*'hidden_size'"),
        ({**BERT, "num_attention_heads": 3}, (7,), 50, r"cannot make bert: .*\(16\) is not a multiple"),
        ({**BERT, "vocab_size": 20}, (7,), 50, r"token ids from 0 to 49: index out of range"),
        ({**BERT, "attn_implementation": "someone/code"}, (7,), 50, r"attn_implementation=someone/code: valid: eager"),
        ({**BERT, "auto_map": {}}, (7,), 50, r"model\.auto_map is not an option"),
        ({**BERT, "_commit_hash": "x"}, (7,), 50, r"model\._commit_hash is not an option"),
        (BERT, (1, 8, 8), None, r"inputs are \[1, 8, 8\], and a classifier of type bert needs tokens"),
        (VIT, (64,), None, r"type vit needs images \[channels, height, width\] \(data\.shape=image"),
        ({"_target_": BERT["_target_"], "name": "clap"}, (7,), 50, r"type clap is not among those of transformers"),
    ],
)
def test_what_does_not_fit_is_named(node, shape, tokens, message):
    with pytest.raises(UserError, match=message):
        build(node, shape, 3, tokens)


@installed
def test_a_folder_that_was_saved_is_loaded_with_a_head_for_the_data(tmp_path):
    from transformers import AutoConfig, AutoModelForSequenceClassification

    config = AutoConfig.for_model("bert", num_labels=2, vocab_size=60, **SMALL)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    saved = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    node = {"_target_": BERT["_target_"], "name": str(tmp_path), "pretrained": True}
    model = build(node, (7,), 3, 50)
    assert model(ids(4, 7)).shape == (4, 3)
    assert torch.equal(model.net.bert.embeddings.word_embeddings.weight, saved.bert.embeddings.word_embeddings.weight)
    with pytest.raises(UserError, match=r"cannot make .*nowhere"):
        build({**node, "name": str(tmp_path / "nowhere")}, (7,), 3, 50)


@installed
def test_code_that_comes_with_a_model_is_neither_run_nor_asked_about(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("builtins.input", lambda *overrides: asked.append(overrides) or "y")
    content = {"model_type": "theirs", "auto_map": {"AutoConfig": "theirs.Config"}}
    (tmp_path / "config.json").write_text(json.dumps(content))
    (tmp_path / "theirs.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(UserError, match=r"cannot make .*contains custom code"):
        build({"_target_": BERT["_target_"], "name": str(tmp_path), "pretrained": True}, (7,), 3, 50)
    assert asked == []
    assert not (tmp_path / "ran").exists()


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"transformers is not installed; .*scripts/setup transformers"):
        build(BERT, (7,), 3, 50)
