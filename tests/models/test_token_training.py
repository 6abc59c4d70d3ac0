"""Models of tokens train, are measured and come back: their inputs stay integers all the way."""

import pytest
import torch
from torch import nn

import reglab
from reglab.core.errors import UserError
from reglab.models import build

NODE = {"_target_": f"{__name__}.Bag"}


class Bag(nn.Module):
    """The mean of the tokens' embeddings, whose dropout is read as a number: as attention does that
    drops by itself.
    """

    def __init__(self, vocab_size, outputs):
        super().__init__()
        self.words = nn.Embedding(vocab_size, outputs)
        self.dropout = nn.Dropout(0.25)

    def forward(self, inputs):
        assert inputs.dtype == torch.int64
        assert self.dropout.p == 0.25
        return self.dropout(self.words(inputs)).sum(1)


@pytest.fixture(autouse=True)
def _own_class(monkeypatch):
    monkeypatch.setenv("REGLAB_TRUST", __name__.partition(".")[0])


def marked(rows=300):
    return reglab.dataset("tokens", rows=rows, length=8, vocabulary=20, classes=3)


def test_a_bag_of_words_learns_which_tokens_mark_the_classes():
    data = marked()
    model = build(NODE, data.input_shape, data.outputs, data.tokens)
    fit = reglab.fit(model, data, [reglab.L2(1e-4)], epochs=20, lr=0.1, trainer={"accelerator": "cpu"})
    assert fit.metrics["val/accuracy"] > 0.95
    assert model.words.weight[1:4].argmax(1).tolist() == [0, 1, 2]


def test_tokens_cannot_be_mixed():
    data = marked(60)
    model = build(NODE, data.input_shape, data.outputs, data.tokens)
    with pytest.raises(
        UserError, match=r"regularizer\.mixup mixes inputs, which does not work with tokens; leave it out"
    ):
        reglab.fit(model, data, [reglab.Mixup(0.2)], epochs=1, trainer={"accelerator": "cpu"})


def test_a_model_that_reads_no_tokens_is_told_that_it_got_some():
    with pytest.raises(UserError, match=r"inputs \[rows, 8, tokens\]"):
        reglab.fit(nn.Linear(8, 3), marked(60), epochs=1, trainer={"accelerator": "cpu"})
