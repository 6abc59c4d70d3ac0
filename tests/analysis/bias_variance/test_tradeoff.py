"""Bias and variance of a sweep's settings: from examples of runs, as the report has them."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
import sklearn.metrics
from scipy.special import softmax

from reglab.analysis.bias_variance.decompose import decompose
from reglab.analysis.bias_variance.predictions import predictions
from reglab.analysis.bias_variance.tradeoff import BiasVariance, bias_variance, has_replicas
from reglab.analysis.per_example_file import Examples
from reglab.analysis.selection import Choice, select
from reglab.analysis.trial import Trial
from reglab.core.errors import UserError

RANDOM = np.random.default_rng(0)
ROWS, SAMPLES = 40, 5
EXPECTED = RANDOM.normal(size=ROWS)
NOISY = EXPECTED + 0.5 * RANDOM.normal(size=ROWS)
CLASSES = RANDOM.integers(0, 3, ROWS)


def examples(outputs: np.ndarray, targets: np.ndarray, losses: np.ndarray, expected: np.ndarray | None) -> Examples:
    index = np.arange(ROWS)
    zeros = np.zeros(ROWS)
    return Examples(
        index, losses, zeros, index, zeros, zeros, val_outputs=outputs, val_targets=targets, val_expected=expected
    )


def regression(strength: float, known: bool = True) -> Examples:
    """A run that shrinks what it has learnt with noise of its own."""
    outputs = (1 - strength) * (EXPECTED + RANDOM.normal(size=ROWS))[:, None]
    return examples(outputs, NOISY, (outputs[:, 0] - NOISY) ** 2, EXPECTED if known else None)


def classification() -> Examples:
    outputs = np.eye(3)[CLASSES] + RANDOM.normal(size=(ROWS, 3))
    losses = -np.log(softmax(outputs, axis=-1)[np.arange(ROWS), CLASSES])
    return examples(outputs, CLASSES, losses, None)


def sweep(strengths: Sequence[float], make: object = regression) -> tuple[Choice, dict[str, Examples]]:
    results, trials = {}, []
    for strength in strengths:
        for replica in range(SAMPLES):
            run = f"{strength} {replica}"
            results[run] = make(strength) if make is regression else make()  # type: ignore[operator]
            name = "l2" if strength else "none"
            params = {"data.replicas": "5", "data.replica": str(replica), "data.resample": "disjoint"}
            params |= {"regularizer.l2.strength": str(strength)} if strength else {}
            loss = {"val/loss": float(results[run].val_loss.mean())}
            trials.append(Trial(run, name, name, strength or None, 1, 0, loss, params, "FINISHED"))
    return select(trials), results


def found(choice: Choice, results: Mapping[str, Examples], task: str = "regression") -> BiasVariance:
    return bias_variance(choice, lambda ids: {each: results[each] for each in ids}, task)


def test_each_setting_has_its_parts_and_the_best_its_trade() -> None:
    choice, results = sweep([0.0, 0.3, 0.6, 0.9])
    assert has_replicas(choice)
    parts = found(choice, results)
    assert [candidate.label for candidate, _ in parts.settings] == ["none", "l2 0.3", "l2 0.6", "l2 0.9"]
    for candidate, each in parts.settings:
        assert each.main.numbers["risk"].value == pytest.approx(candidate.mean("val/loss"))
        assert each.main.numbers["noise"].value == pytest.approx(((NOISY - EXPECTED) ** 2).mean())
        assert (each.replicas, each.runs, each.rows) == (5, 5, 40)
    (trade,) = parts.tradeoffs
    outputs = [np.stack([results[f"{s} {r}"].val_outputs[:, 0] for r in range(SAMPLES)]) for s in (0.6, 0.0)]
    assert (trade.best.label, trade.against.label, trade.inside) == ("l2 0.6", "none", True)
    one, other = (each.var(0, ddof=1).mean() for each in outputs)
    assert trade.differences["variance"].value == pytest.approx(one - other)
    assert trade.differences["variance"].high < 0
    assert trade.differences["bias2"].value > 0
    assert "disjoint" in parts.scope


def test_of_classes_there_are_the_cross_entropy_the_brier_score_and_the_error() -> None:
    choice, results = sweep([0.0], classification)
    ((_, parts),) = found(choice, results, "classification").settings
    runs = [results[f"0.0 {replica}"] for replica in range(SAMPLES)]
    assert parts.main.loss == "cross-entropy"
    assert parts.main.numbers["risk"].value == pytest.approx(np.mean([run.val_loss.mean() for run in runs]))
    brier, error = parts.others
    scores = [
        sklearn.metrics.brier_score_loss(CLASSES, softmax(r.val_outputs, axis=-1), labels=[0, 1, 2]) for r in runs
    ]
    assert brier.numbers["risk"].value == pytest.approx(np.mean(scores))
    assert brier.bias.value + brier.numbers["variance"].value == pytest.approx(brier.numbers["risk"].value)
    errors = [1 - sklearn.metrics.accuracy_score(CLASSES, run.val_outputs.argmax(-1)) for run in runs]
    assert error.numbers["risk"].value == pytest.approx(np.mean(errors))


def test_binary_outputs_are_logits_of_the_second_class() -> None:
    targets = (CLASSES > 0).astype(np.float32)
    logits = [RANDOM.normal(size=(ROWS, 1)) for _ in range(SAMPLES)]
    losses = [np.logaddexp(0, np.where(targets == 1, -each[:, 0], each[:, 0])) for each in logits]
    runs = [examples(each, targets, loss, None) for each, loss in zip(logits, losses, strict=True)]
    made = iter(runs)
    choice, results = sweep([0.0], lambda: next(made))
    ((_, parts),) = found(choice, results, "binary").settings
    assert parts.main.numbers["risk"].value == pytest.approx(np.mean(losses))
    brier = [((1 / (1 + np.exp(-each[:, 0])) - targets) ** 2).mean() for each in logits]
    assert parts.others[0].numbers["risk"].value == pytest.approx(np.mean(brier))


def test_rows_of_weight_zero_do_not_count() -> None:
    choice, results = sweep([0.0])
    weights = np.repeat([2.0, 0.0], ROWS // 2)
    (candidate,) = choice.candidates
    weighted = {run: replace(each, val_weight=weights) for run, each in results.items()}
    half = ROWS // 2
    expected = np.mean([each.val_loss[:half].mean() for each in results.values()])
    parts = decompose(predictions(candidate, weighted, "regression"))
    assert parts.main.numbers["risk"].value == pytest.approx(expected)


@pytest.mark.parametrize(
    "change, task, message",
    [
        ({"val_outputs": None}, "regression", "runs have no outputs, which are kept where .*validate on fewer rows"),
        ({"val_loss": np.ones(ROWS)}, "regression", "its loss is not the regression's own, .* leave out loss="),
        ({}, "survival", "bias and variance are told apart for squared error and cross-entropy"),
    ],
)
def test_what_has_no_decomposition_is_left_out_with_the_reason(change: dict, task: str, message: str) -> None:
    choice, results = sweep([0.0])
    parts = found(choice, {run: replace(each, **change) for run, each in results.items()}, task)
    assert not parts.settings
    assert len(parts.left_out) == 1
    with pytest.raises(UserError, match=message):
        raise UserError(parts.left_out[0])


def test_runs_of_different_rows_have_none() -> None:
    choice, results = sweep([0.0])
    moved = {run: replace(each, val_index=each.val_index + place) for place, (run, each) in enumerate(results.items())}
    assert "validated on different rows" in found(choice, moved).left_out[0]


def test_one_training_sample_has_no_variance() -> None:
    choice, results = sweep([0.0])
    (candidate,) = choice.candidates
    one = replace(candidate, trials=candidate.trials[:1])
    with pytest.raises(UserError, match=r"one training sample, and variance needs several: data\.replicas=20"):
        predictions(one, results, "regression")


def lost(keep: object) -> tuple[Choice, dict[str, Examples]]:
    """Return a setting of 3 samples by 3 seeds, of which some runs are missing."""
    results, trials = {}, []
    for sample, seed in itertools.product(range(3), repeat=2):
        if keep(sample, seed):  # type: ignore[operator]
            run = f"{sample} {seed}"
            results[run] = regression(0.0)
            params = {"data.replicas": "3", "data.replica": str(sample)}
            loss = {"val/loss": float(results[run].val_loss.mean())}
            trials.append(Trial(run, "none", "none", None, 1, seed, loss, params, "FINISHED"))
    return select(trials), results


@pytest.mark.parametrize(
    "keep",
    [
        lambda sample, seed: seed == 0 or sample == 0,
        lambda sample, seed: sample == 0 or (sample, seed) in {(1, 1), (2, 2)},
    ],
)
def test_runs_that_are_missing_cost_intervals_and_no_more(keep: object) -> None:
    ((_, parts),) = found(*lost(keep)).settings
    numbers = parts.main.numbers
    assert numbers["bias2"].value + numbers["variance"].value + numbers["noise"].value == pytest.approx(
        numbers["sum"].value
    )


def test_settings_on_other_samples_are_not_compared() -> None:
    choice, results = sweep([0.0, 0.3])
    strong = choice.candidates[1]
    moved = [replace(trial, params={**trial.params, "data.resample": "bootstrap"}) for trial in strong.trials]
    parts = found(replace(choice, candidates=(choice.candidates[0], replace(strong, trials=tuple(moved)))), results)
    assert not parts.tradeoffs
    assert "not trained on the same samples" in parts.left_out[0]
    assert "bootstrap" in parts.scope
    assert "disjoint" in parts.scope
