"""ListNet, NDCG and the reciprocal rank against scikit-learn and loops; queries stay whole."""

import math

import pytest
import sklearn.metrics
import torch

import reglab
from reglab import models
from reglab.core.errors import UserError
from reglab.measures import gap, side
from reglab.measures.evaluate import evaluation_of
from reglab.tasks import task_named
from tasks.task_cases import case

TASK = task_named("ranking")


def statistics(outputs, targets):
    return TASK.statistics(TASK.align(outputs, targets), targets)


def searches(queries=60, seed=0):
    """Return inputs, relevance and the query of each row, in no order."""
    generator = torch.Generator().manual_seed(seed)
    query = torch.arange(queries).repeat_interleave(torch.randint(1, 9, (queries,), generator=generator))
    query = query[torch.randperm(len(query), generator=generator)]
    inputs = 5 + 3 * torch.randn(len(query), 3, generator=generator)
    relevance = ((inputs[:, 0] - inputs[:, 1]) / 2 + torch.randn(len(query), generator=generator)).round().clamp(0, 4)
    return inputs, relevance, query


@pytest.mark.parametrize("digits", [0, 9], ids=["ties", "no ties"])
def test_ndcg_is_scikit_learns(digits):
    outputs, targets = case("ranking")
    outputs = outputs.round(decimals=digits)
    found = statistics(outputs, targets)[1]
    for row, (scores, wanted) in enumerate(zip(outputs[..., 0], targets, strict=True)):
        documents = wanted >= 0
        if documents.sum() > 1:
            gains, given = (wanted[documents].exp2() - 1).numpy(), scores[documents].numpy()
            expected = sklearn.metrics.ndcg_score([gains], [given], k=10)
            assert float(found[row]) == pytest.approx(expected, abs=1e-9)


def test_the_loss_is_listnets_and_the_reciprocal_rank_that_of_the_first_relevant_document():
    outputs, targets = case("ranking")
    loss, _, reciprocal = statistics(outputs, targets)
    for row in range(len(targets)):
        documents = [i for i in range(12) if targets[row, i] >= 0]
        scores = {i: float(outputs[row, i, 0]) for i in documents}
        wanted = {i: math.exp(float(targets[row, i])) for i in documents}
        log_sum = math.log(sum(math.exp(score) for score in scores.values()))
        expected = -sum(wanted[i] / sum(wanted.values()) * (scores[i] - log_sum) for i in documents)
        assert float(loss[row]) == pytest.approx(expected, rel=1e-9)
        order = sorted(documents, key=scores.get, reverse=True)
        ranks = [rank for rank, i in enumerate(order, 1) if targets[row, i] > 0]
        assert float(reciprocal[row]) == pytest.approx(1 / ranks[0] if ranks else 0.0)


def test_what_is_no_document_does_not_count_and_equal_scores_share_their_ranks():
    scores, targets = torch.tensor([[[1.0], [1.0], [9.0]]]), torch.tensor([[0.0, 2.0, -100.0]])
    loss, gain, reciprocal = statistics(scores, targets)
    assert float(loss) == pytest.approx(math.log(2))
    assert float(gain) == pytest.approx((1 + 1 / math.log2(3)) / 2)
    assert float(reciprocal) == pytest.approx(1 / 1.5)
    assert statistics(scores, torch.tensor([[0.0, 0.0, -100.0]]))[1:].tolist() == [[0.0], [0.0]]


def test_the_gap_is_over_queries():
    outputs, targets = case("ranking")
    measured = side(evaluation_of(outputs, targets, TASK), TASK)
    found = gap(measured, measured._replace(left=0.5), TASK)
    losses = statistics(outputs, targets)[0]
    assert float(found["val/loss_se"]) == pytest.approx(float(losses.std() / len(losses) ** 0.5), rel=1e-9)
    for name in ("loss", "ndcg", "mrr"):
        assert found[f"gap/{name}_low"] < found[f"gap/{name}"] < found[f"gap/{name}_high"]


def test_rows_of_a_query_stay_together_and_are_prepared_by_the_training_documents():
    inputs, relevance, query = searches()
    data = reglab.dataset(inputs, relevance, query=query)
    assert (data.task, data.outputs, data.input_shape) == ("ranking", 1, (8, 3))
    numbers = [set(part.index.tolist()) for part in (data.train, data.val, data.test)]
    assert [len(each) for each in numbers] == [36, 12, 12]
    assert set.union(*numbers) == set(range(60))
    for number, targets, values in zip(data.val.index, data.val.targets, data.val.inputs, strict=True):
        own = query == number
        assert targets[targets >= 0].tolist() == relevance[own].tolist()
        assert bool((values[targets < 0] == 0).all())
    documents = data.train.inputs[data.train.targets >= 0]
    torch.testing.assert_close(documents.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(documents.std(0, correction=0), torch.ones(3), atol=1e-5, rtol=0)
    padded = torch.full((60, 8, 3), math.nan)
    wanted = torch.full((60, 8), -100.0)
    for number in range(60):
        own = query == number
        padded[number, : own.sum()], wanted[number, : own.sum()] = inputs[own], relevance[own]
    again = reglab.dataset(padded, wanted, task="ranking")
    torch.testing.assert_close(again.val.inputs, data.val.inputs)
    torch.testing.assert_close(again.val.targets, data.val.targets)


def test_label_noise_stays_within_the_query_and_smaller_parts_hold_whole_queries():
    inputs, relevance, query = searches()
    noisy = reglab.dataset(inputs, relevance, query=query, label_noise=0.5).train
    for targets, clean in zip(noisy.targets, noisy.clean_targets, strict=True):
        assert targets.sort().values.tolist() == clean.sort().values.tolist()
    assert int(noisy.corrupted.sum()) == 18
    smaller = reglab.dataset(inputs, relevance, query=query, train_size=10, replicas=3, replica=1)
    assert smaller.train.inputs.shape == (10, 8, 3)


def test_fit_learns_the_order():
    inputs, relevance, query = searches(200)
    data = reglab.dataset(inputs, relevance, query=query)
    model = torch.nn.Linear(3, data.outputs)
    torch.nn.init.zeros_(model.weight)  # all documents alike
    fit = reglab.fit(model, data, reglab.L2(1e-4), epochs=10, lr=0.05, batch_size=16)
    assert fit.metrics["val/ndcg"] > fit.history["val/ndcg"][0] + 0.1
    assert {"gap/ndcg_low", "gap/mrr_low", "gap/loss_low"} <= set(fit.metrics)


def test_a_model_of_one_document_scores_each():
    node = {"_target_": "reglab.models.MLP", "width": 4}
    model = models.build(node, (5, 3), 1, documents=True)
    inputs = torch.randn(2, 5, 3)
    torch.testing.assert_close(model(inputs)[1, 3], model.scorer(inputs[1, 3:4])[0])


def test_a_table_names_its_column_of_queries(tmp_path):
    inputs, relevance, query = searches()
    path = tmp_path / "searches.csv"
    lines = [
        f"q{int(q):02d},{grade:.0f},{row[0]:.3f},{row[1]:.3f},{'uvwxy'[int(q) % 5]}"
        for q, grade, row in zip(query, relevance, inputs, strict=True)
    ]
    path.write_text("\n".join(["text,grade,a,b,kind", *lines]))
    given = {"path": str(path), "target": "grade"}
    data = reglab.dataset("table", **given, query="text", noise_columns=1)
    assert (data.task, data.input_shape[1]) == ("ranking", 8)
    assert data.summary["features"] == 8
    assert data.feature_names == ("a", "b", *(f"kind={kind}" for kind in "uvwxy"), "noise_0")
    grouped = reglab.dataset("table", **given, query="text", split="grouped", group="kind")
    assert set((grouped.val.index % 5).tolist()).isdisjoint((grouped.train.index % 5).tolist())
    for options, message in (
        ({"query": "text", "sample_weight": "grade"}, r"data\.sample_weight differs within a query"),
        ({"query": "text", "task": "regression"}, "data.query= is of the task ranking"),
        ({"task": "ranking"}, "name it, data.query=COLUMN"),
        ({"query": "txt"}, "did you mean 'text'"),
    ):
        with pytest.raises(UserError, match=message):
            reglab.dataset("table", **given, **options)


@pytest.mark.parametrize(
    "inputs, targets, options, message",
    [
        ((20, 3), (20,), {"task": "ranking"}, "inputs .queries, documents"),
        ((20, 4, 3), (20, 4), {"task": "ranking", "query": [1] * 3}, "has the query of each row"),
        ((20, 3), (20, 2), {"query": [1, 2] * 10}, "ranking takes one target column"),
    ],
)
def test_what_are_no_queries_is_refused(inputs, targets, options, message):
    with pytest.raises(UserError, match=message):
        reglab.dataset(torch.randn(*inputs), torch.arange(math.prod(targets)).reshape(targets) % 3, **options)


def test_data_without_queries_cannot_be_ranked():
    rows = torch.utils.data.TensorDataset(torch.randn(40, 3), torch.arange(40.0) % 3)
    with pytest.raises(UserError, match=r"ranks the documents of queries: give a table with data\.query"):
        reglab.dataset(rows, task="ranking")


def test_a_relevance_that_is_none_is_refused():
    targets = torch.tensor([[1.0, -100.0], [-100.0, -100.0], [0.0, 2.0]])
    with pytest.raises(UserError, match="a query has no document"):
        reglab.dataset(torch.randn(3, 2, 4), targets, task="ranking")
    with pytest.raises(UserError, match="grades of at most 60"):
        reglab.dataset(torch.randn(40, 4), torch.arange(40) * 3, query=torch.arange(40) // 4)
    with pytest.raises(UserError, match="relevance must be >= 0"):
        reglab.dataset(torch.randn(3, 2, 4), targets + 50, task="ranking")
