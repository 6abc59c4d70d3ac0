"""Six claims: supported on their own data, not on their counter-examples; against closed forms."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso, Ridge

import reglab
from reglab.api.claims import run, zeros
from reglab.api.claims.claim import Claim, Finding, Found, Number, best_of_others
from reglab.api.claims.figure import draw_claim
from reglab.api.claims.page import page
from reglab.api.claims.run import CLAIMS
from reglab.api.claims.trainings import Setup, Trainings, train
from reglab.core.errors import UserError
from reglab.data.replicas import resampled
from reglab.regularizers import L1, L2

REPETITIONS = 6
# Shorter trainings than those of the command, which say the same.
SHORT: Mapping[str, Mapping[str, Any]] = {
    "noise": {"epochs": 35, "width": 64},
    "gap": {"lr": 5e-3, "epochs": 20},
    "choice": {"lr": 5e-3, "epochs": 20},
    "tradeoff": {"lr": 3e-2, "epochs": 40, "samples": 4},
    "l1_zeros": {"lr": 3e-2, "epochs": 40},
    "l2_spread": {"lr": 3e-2, "epochs": 40},
}


def short(claim: Claim) -> Claim:
    return replace(claim, setup=replace(claim.setup, **SHORT[claim.name]))


def trainings(name: str, counterexample: bool = False) -> Trainings:
    return trained("gap" if name == "choice" else name, counterexample)  # these look at the same networks


@cache
def trained(name: str, counterexample: bool) -> Trainings:
    claim = short(CLAIMS[name])
    return train(claim.countered.setup if counterexample else claim.setup, REPETITIONS)


def finding(name: str, counterexample: bool = False) -> Finding:
    found = trainings(name, counterexample)
    return Finding(CLAIMS[name], CLAIMS[name].judge(found), REPETITIONS, found.count, found.diverged, counterexample)


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_is_supported_by_its_data(name: str) -> None:
    assert finding(name).verdict == "supported", finding(name).found.numbers


@pytest.mark.parametrize("name", CLAIMS)
def test_the_verdict_turns_on_the_counterexample(name: str) -> None:
    assert finding(name, counterexample=True).verdict == "not supported", finding(name, True).found.numbers


def test_claims_that_look_at_the_same_networks_say_so() -> None:
    assert CLAIMS["gap"].setup == CLAIMS["choice"].setup
    assert CLAIMS["gap"].countered.setup == CLAIMS["choice"].countered.setup


def test_l1_keeps_the_features_that_scikit_learns_lasso_keeps() -> None:
    found = trainings("l1_zeros")
    strengths = found.setup.regularizers[L1]
    for repetition, data in enumerate(found.data):
        inputs, targets = data.train.tensor.double().numpy(), data.train.targets.double().numpy()
        for index, strength in zip(found.setup.indices(L1)[2:], strengths[2:], strict=True):
            lasso = Lasso(alpha=strength / 2, tol=1e-10, max_iter=100_000).fit(inputs, targets)
            weight = found.weight("head.weight")[repetition, index, 0]
            large = np.abs(lasso.coef_) > 0.02  # the others are zero at one step and not at the next
            assert (weight[large] != 0).all()
            assert np.abs(weight - lasso.coef_).max() < 0.05


def test_bias_and_variance_are_those_of_ridge_regression_in_closed_form() -> None:
    found = trainings("tradeoff")
    indices, strengths = found.setup.indices(L2), found.setup.regularizers[L2]
    for repetition in range(2):
        data = found.data[repetition]
        true = data.expected[data.val.index].numpy()
        for index, strength in zip(indices[2:], strengths[2:], strict=True):
            predicted = []
            for sample in resampled(data, found.setup.samples, "disjoint"):
                inputs, targets = sample.train.tensor.double().numpy(), sample.train.targets.double().numpy()
                # reglab's L2 is strength / 2 * |w|^2 beside the mean squared error.
                fitted = Ridge(alpha=strength * len(inputs) / 2).fit(inputs, targets)
                predicted.append(fitted.predict(data.val.tensor.double().numpy()))
            variance = np.var(predicted, axis=0, ddof=1).mean()
            bias = ((np.mean(predicted, axis=0) - true) ** 2).mean() - variance / len(predicted)
            panel = CLAIMS["tradeoff"].judge(found).panels[0]
            ours = {line.name: line.values[repetition][index] for line in panel.lines}
            assert ours["bias²"] == pytest.approx(bias, rel=0.05, abs=2e-3)
            assert ours["variance"] == pytest.approx(variance, rel=0.1)


def test_noise_is_counted_row_by_row() -> None:
    found = trainings("noise")
    part, model = found.data[1].train, found.setup.model(found.data[1])
    model.load_state_dict(dict(found._weights[1, 0, 0]))
    wrong = sum(
        int(model(row[None]).argmax()) == int(given)
        for row, given, changed in zip(part.tensor, part.targets, part.corrupted, strict=True)
        if changed
    )
    line = CLAIMS["noise"].judge(found).panels[0].lines[0]
    assert line.values[1][0] == pytest.approx(wrong / len(part))


def test_trainings_are_those_of_reglab_fit() -> None:
    found = trainings("l2_spread")
    setup, data = found.setup, found.data[2]
    torch.manual_seed(2)
    strength = setup.regularizers[L2][1]
    model = setup.model(data)
    reglab.fit(
        model,
        data,
        [L2(strength)],
        epochs=setup.epochs,
        batch_size=32,
        lr=setup.lr,
        scheduler="CosineAnnealingLR",
        seed=2,
    )
    ours = found.weight("head.weight")[2, setup.indices(L2)[1]]
    assert np.abs(ours - model.state_dict()["head.weight"].double().numpy()).max() < 1e-4


@pytest.mark.parametrize(
    ("values", "limit", "at_most", "verdict"),
    [
        ((1.0, 1.1, 0.9), 0.5, False, "supported"),
        ((0.1, 0.2, 0.1), 0.5, False, "not supported"),
        ((0.1, 0.9, 0.6), 0.5, False, "undecided"),
        ((0.1, 0.2, 0.1), 0.5, True, "supported"),
        ((1.0, 1.1, 0.9), 0.5, True, "not supported"),
        ((0.1, 0.9, 0.6), 0.5, True, "undecided"),
        ((0.0, 0.0), 0.0, False, "not supported"),
    ],
)
def test_a_verdict_is_that_of_the_whole_interval(
    values: tuple[float, ...], limit: float, at_most: bool, verdict: str
) -> None:
    assert Number("it", values, limit, at_most).verdict == verdict


@pytest.mark.parametrize("at_most", [False, True])
def test_what_is_false_is_supported_in_one_of_forty(at_most: bool) -> None:
    random = np.random.default_rng(0)
    drawn = random.normal(size=(4000, 5))
    wrong = np.mean([Number("it", tuple(row), 0.0, at_most).verdict == "supported" for row in drawn])
    assert wrong == pytest.approx(0.025, abs=0.0075)


def test_no_setting_is_chosen_by_the_repetition_that_it_is_judged_in() -> None:
    lucky = [[0.0, 10.0, 10.0], [9.0, 1.0, 5.0], [9.0, 1.0, 5.0]]
    assert best_of_others(lucky) == [1, 0, 0]


def test_a_claim_with_diverged_trainings_is_undecided_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(run.CLAIMS, "l1_zeros", replace(zeros.CLAIM, setup=_diverging(zeros.CLAIM.setup)))
    result = reglab.claims("l1_zeros", repetitions=2)
    assert [each.label for each in result.findings] == ["undecided at this size"]
    assert "trainings diverged" in str(result)
    assert "trainings diverged, so that nothing can be said" in result.html()


def _diverging(setup: Setup) -> Setup:
    return replace(setup, lr=1e30, epochs=2, regularizers={L1: (1e-3,)})


def test_the_page_says_all_that_was_found(tmp_path: Path) -> None:
    findings = [finding(name) for name in ("l1_zeros", "l2_spread")]
    text = page(findings, 12.3)
    assert text.count("<svg") == 2
    assert "http-equiv" not in text
    assert "src=" not in text
    for each in findings:
        assert each.claim.question in text
        for number in each.found.numbers:
            assert number.cells[1] in text
    path = reglab.Claims(tuple(findings), 12.3).write(tmp_path / "new" / "claims.html")
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert "l1_zeros: supported" in str(reglab.Claims(tuple(findings), 1.0))


def test_a_figure_has_a_line_for_each_kind_of_training() -> None:
    (axis,) = draw_claim(finding("tradeoff").found.panels).axes
    assert [line.get_label() for line in axis.get_lines()] == ["bias²", "variance", "sum"]
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["none", "0.03", "0.1", "0.3", "1", "4"]


def test_wrong_use_is_one_sentence() -> None:
    with pytest.raises(UserError, match=r"no claim 'l1_zero': did you mean 'l1_zeros'"):
        reglab.claims("l1_zero")
    with pytest.raises(UserError, match="needs at least 2"):
        reglab.claims("gap", repetitions=1)


def test_numbers_are_needed_by_every_claim() -> None:
    for name in CLAIMS:
        found: Found = finding(name).found
        assert len(found.numbers) >= 2
        assert all(len(number.values) == REPETITIONS for number in found.numbers)


def test_progress_is_told_in_epochs() -> None:
    told: list[tuple[int, int]] = []
    setup = replace(zeros.CLAIM.setup, epochs=2, regularizers={L1: (1e-2,)})
    train(setup, 2, lambda done, of: told.append((done, of)))
    assert told == sorted(told)
    assert told[0] == (0, 8)
    assert told[-1] == (8, 8)
