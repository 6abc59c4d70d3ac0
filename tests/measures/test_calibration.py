import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from scipy.stats import norm
from sklearn.calibration import calibration_curve

from measures.deeper_cases import WholeProbe, check_laws, models, rows, seen
from reglab.core.errors import UserError
from reglab.measures import Calibration
from reglab.measures.calibration import BinSums, _equal_mass, _equal_width, _folded_inverse
from reglab.measures.of_models import measured

TASKS = ("classification", "binary", "multilabel", "ordinal")


@pytest.fixture(scope="module", params=TASKS)
def numbers(request):
    return request.param, check_laws(Calibration(), request.param)


def confidences(task, model, part):
    """Confidence and right decisions, flat and by row, float64."""
    inputs, targets = rows(task, *((1,) if part == "train" else (2, 70)))
    outputs, targets = model.eval()(inputs).detach().double().numpy(), targets.numpy()
    if task == "classification":
        chances = softmax(outputs, 1)
        return chances.max(1)[:, None], (chances.argmax(1) == targets)[:, None]
    if task == "ordinal":
        reached = np.cumprod(np.c_[np.ones(len(outputs)), expit(outputs)], 1)
        chances = reached - np.c_[reached[:, 1:], np.zeros(len(outputs))]
        chosen = (reached[:, 1:] > 0.5).sum(1)
        return chances[np.arange(len(chances)), chosen][:, None], (chosen == targets)[:, None]
    chances = expit(outputs)
    return np.maximum(chances, 1 - chances), (chances > 0.5) == targets.reshape(len(targets), -1)


def test_numbers_are_those_of_loops_over_bins(numbers):
    task, found = numbers
    for member, model in enumerate(models(task)):
        for part in ("train", "val"):
            sure, right = confidences(task, model, part)
            row, flat, good = np.repeat(np.arange(len(sure)), sure.shape[1]), sure.ravel(), right.ravel()
            ece, reliability, chance = 0.0, 0.0, 0.0
            for k in range(15):
                inside = (flat > k / 15) & (flat <= (k + 1) / 15)
                if inside.any():
                    off = abs(flat[inside].mean() - good[inside].mean())
                    ece, reliability = ece + inside.mean() * off, reliability + inside.mean() * off**2
                    spread = np.sqrt((flat[inside] * (1 - flat[inside])).sum())
                    chance += np.sqrt(2 / np.pi) * spread / len(flat)
            # Columns first: ties and ranks are counted label by label.
            by_label = sure.T.ravel()
            order, excess, row = np.argsort(by_label, kind="stable"), by_label - right.T.ravel(), np.tile(
                np.arange(len(sure)), sure.shape[1]
            )  # fmt: skip
            bins = [order[np.arange(len(order)) * 15 // len(order) == k] for k in range(15)]
            mass = sum(abs(excess[each].sum()) for each in bins) / len(order)
            square = 0.0
            for each in bins:
                pairs = [excess[i] * excess[j] for i in each for j in each if row[i] != row[j]]
                square += len(each) / len(order) * np.mean(pairs)
            expected = {"ece": ece, "reliability": reliability, "ece_mass": mass, "square": square, "chance": chance}
            for name, value in expected.items():
                assert found[f"calibration/{part}_{name}"][member].item() == pytest.approx(value, rel=1e-5, abs=1e-7)
    for name in ("ece", "ece_mass", "square", "reliability"):
        train, val, gap = (found[f"calibration/{side}_{name}"] for side in ("train", "val", "gap"))
        torch.testing.assert_close(gap, val - train)


def test_the_bins_of_equal_width_are_those_of_scikit_learn():
    sure, right = confidences("classification", models("classification")[0], "val")
    shares, means = calibration_curve(right.ravel(), sure.ravel(), n_bins=15)
    flat = sure.ravel()
    counts = np.histogram(flat, np.linspace(0, 1, 16))[0]
    expected = (counts[counts > 0] * abs(shares - means)).sum() / len(flat)
    found = Calibration().measure(seen("classification"), {})["calibration/val_ece"][0]
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_intervals_hold_their_value_and_the_training_side_is_exact(numbers):
    _, found = numbers
    for name in ("val_ece", "gap_ece", "val_square"):
        low, value, high = (found[f"calibration/{name}{end}"] for end in ("_low", "", "_high"))
        assert ((low <= value) & (value <= high)).all()
        assert (low < high).all()
    # The gap's interval is as wide as that of the validation side.
    wide = found["calibration/gap_ece_high"] - found["calibration/gap_ece"]
    torch.testing.assert_close(wide, found["calibration/val_ece_high"] - found["calibration/val_ece"])


def test_a_probe_of_some_training_rows_widens_the_interval_of_the_gap(numbers):
    task, exact = numbers
    part = seen(task)
    part.left = 0.5
    found = Calibration().measure(part, {})
    key = "calibration/gap_ece"
    torch.testing.assert_close(found[key], exact[key])
    assert (found[f"{key}_low"] < exact[f"{key}_low"]).all()
    assert (found[f"{key}_high"] >= exact[f"{key}_high"]).all()
    torch.testing.assert_close(found["calibration/val_ece_low"], exact["calibration/val_ece_low"])


def test_without_a_wrong_decision_there_is_no_interval():
    inputs, _ = rows("classification", 2)
    model = models("classification", scale=5.0)[0]
    targets = model.eval()(inputs).argmax(1).detach()
    of = WholeProbe([model], (inputs, targets), (inputs, targets), "classification")
    found = Calibration().measure(of, {})
    assert found["calibration/val_ece"].isfinite().all()
    assert found["calibration/val_ece_low"].isnan().all()
    assert found["calibration/val_square_high"].isnan().all()
    assert found["calibration/gap_ece_high"].isnan().all()


@pytest.mark.parametrize("power, size", [(1.0, 0.0), (2.0, 0.0958)])  # of the logits: calibrated, and overconfident
def test_intervals_cover_the_error_of_the_population(power, size):
    random = np.random.default_rng(0)

    def drawn(*shape):
        true = 0.5 + 0.5 * random.beta(2, 1, size=shape)
        odds = (true / (1 - true)) ** power
        return torch.tensor(odds / (1 + odds)), torch.tensor(true)

    sure, true = drawn(1, 1, 400_000)
    of_width = BinSums(sure, true, _equal_width(sure)).ece().item()
    of_mass = BinSums(sure, true, _equal_mass(sure)).reliability().item()
    assert of_width == pytest.approx(size, abs=1e-3)
    sure, true = drawn(400, 1, 300)
    right = (torch.tensor(random.random(true.shape)) < true).double()
    ece = BinSums(sure, right, _equal_width(sure)).ece_interval(0.95)
    assert ((ece.low <= of_width) & (of_width <= ece.high)).double().mean() > 0.93
    sums = BinSums(sure, right, _equal_mass(sure))
    square = sums.square_interval(0.95)
    assert ((square.low <= of_mass) & (of_mass <= square.high)).double().mean() > 0.93
    error = square.value.std() / 400**0.5
    assert abs(square.value.mean() - of_mass) < 4 * error  # unbiased
    if power == 1:
        chance = BinSums(sure, right, _equal_width(sure)).chance().mean()
        assert ece.value.mean().item() == pytest.approx(chance.item(), rel=0.05)


def test_the_mean_of_a_folded_normal_is_inverted():
    points = np.array([0.0, 0.3, 1.0, 4.0])
    means = points * (1 - 2 * norm.cdf(-points)) + 2 * norm.pdf(points)
    np.testing.assert_allclose(_folded_inverse(torch.tensor(means)).numpy(), points, atol=1e-6)


def test_a_task_without_probabilities_is_refused():
    inputs, _ = rows("classification", 1)
    data = (inputs, inputs[:, 0])
    of = WholeProbe([torch.nn.Linear(5, 1)], data, data, "regression")
    with pytest.raises(UserError, match=r"measure=calibration: the task regression has no probability.*leave"):
        measured(of, {"calibration": Calibration()})
