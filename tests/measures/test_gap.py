import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
import torch

from reglab.core.errors import UserError
from reglab.measures import Evaluation, example_losses, gap, gap_of_means, gap_of_points, one_part, side

TASKS = ["classification", "binary", "multilabel", "regression"]


def evaluation(task, rows, noise, seed, members=(), dtype=torch.float64):
    """A model of which the outputs miss the targets by ``noise``."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    if task == "classification":
        targets = torch.randint(0, 4, (rows,), generator=generator)
        outputs = torch.nn.functional.one_hot(targets, 4) + noise * normal(*members, rows, 4)
    else:
        columns = {"binary": 1, "multilabel": 3, "regression": 2}[task]
        hidden = normal(rows, columns)
        targets = (hidden if task == "regression" else (hidden > 0).float()).squeeze(-1)
        outputs = hidden + noise * normal(*members, rows, columns)
    outputs = outputs.to(dtype)
    return Evaluation(example_losses(outputs, targets, task), outputs, targets)


def pair(task, members=(), dtype=torch.float64):
    return evaluation(task, 80, 0.3, 1, members, dtype), evaluation(task, 60, 0.9, 2, members, dtype)


def measured(train, val, task, left=0.0, **options):
    return gap(side(train, task, left), side(val, task), task, **options)


def score(task, outputs, targets):
    """The score by scikit-learn and numpy, of plain arrays."""
    if task == "regression":
        return sklearn.metrics.r2_score(targets, outputs)
    if task == "classification":
        return sklearn.metrics.accuracy_score(targets, outputs.argmax(1))
    return ((outputs > 0) == (targets.reshape(outputs.shape) > 0.5)).mean()


@pytest.mark.parametrize("task", TASKS)
def test_points_are_plain_means_and_their_differences(task):
    train, val = pair(task)
    name = "r2" if task == "regression" else "accuracy"
    train_score, val_score = (score(task, part.outputs.numpy(), part.targets.numpy()) for part in (train, val))
    expected = {
        "train/loss": train.losses.numpy().mean(),
        "val/loss": val.losses.numpy().mean(),
        "gap/loss": val.losses.numpy().mean() - train.losses.numpy().mean(),
        "val/loss_se": scipy.stats.sem(val.losses.numpy()),
        f"train/{name}": train_score,
        f"val/{name}": val_score,
        f"gap/{name}": train_score - val_score,
    }
    actual = {key: value.item() for key, value in measured(train, val, task).items()}
    intervals = {f"gap/{kind}_{end}" for kind in ("loss", name) for end in ("low", "high")}
    others = {key for key in actual if "/rmse" in key}
    assert set(actual) - others == set(expected) | intervals | {f"val/{name}_se"}
    assert len(others) == (6 if task == "regression" else 0)
    assert {key: actual[key] for key in expected} == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("left", [0.0, 0.6])
@pytest.mark.parametrize("task", TASKS)
def test_members_are_measured_each_by_itself(task, left):
    train, val = pair(task, members=(3,))
    together = measured(train, val, task, left)
    for member in range(3):
        sides = (Evaluation(part.losses[member], part.outputs[member], part.targets) for part in (train, val))
        for key, value in measured(*sides, task, left).items():
            assert together[key].shape == (3,)
            torch.testing.assert_close(together[key][member], value, atol=1e-6, rtol=0)


def test_accuracy_beside_a_whole_training_part_has_scipys_wilson_ends():
    train, val = pair("classification")
    actual = {key: value.item() for key, value in measured(train, val, "classification", level=0.9).items()}
    right = round(actual["val/accuracy"] * 60)
    wilson = scipy.stats.binomtest(right, 60).proportion_ci(0.9, method="wilson")
    assert actual["gap/accuracy_low"] == pytest.approx(actual["train/accuracy"] - wilson.high, abs=1e-9)
    assert actual["gap/accuracy_high"] == pytest.approx(actual["train/accuracy"] - wilson.low, abs=1e-9)


def test_the_gap_in_accuracy_has_newcombes_ends_of_his_paper():
    """56 of 70 and 48 of 80: the paper's first example, method 10."""

    def part(right, rows):
        outputs = torch.where(torch.arange(rows) < right, 1.0, -1.0).double().unsqueeze(1)
        targets = torch.ones(rows)
        return Evaluation(example_losses(outputs, targets, "binary"), outputs, targets)

    actual = measured(part(56, 70), part(48, 80), "binary", left=1.0)
    assert actual["gap/accuracy_low"].item() == pytest.approx(0.0524, abs=5e-5)
    assert actual["gap/accuracy_high"].item() == pytest.approx(0.3339, abs=5e-5)


def test_the_loss_has_the_ends_between_which_halls_transformed_t_lies_within_students():
    """Hall's own transformation of t, inverted by a search instead of its formula."""
    train, val = pair("classification")
    actual = measured(train, val, "classification")
    losses = val.losses.numpy()
    rows, error = len(losses), scipy.stats.sem(losses)
    skewness = scipy.stats.skew(losses, bias=False) * ((rows - 1) / rows) ** 0  # of g1's unbiased third moment
    unbiased = ((losses - losses.mean()) ** 3).sum() * rows / ((rows - 1) * (rows - 2)) / losses.std(ddof=1) ** 3
    assert unbiased == pytest.approx(skewness)
    k = unbiased / rows**0.5

    def transformed(mean):
        t = (losses.mean() - mean) / error
        return t + k * t**2 / 3 + k**2 * t**3 / 27 + k / 6

    limit = scipy.stats.t.ppf(0.975, rows - 1)
    reach = 8 * error
    for end, wanted in (("low", limit), ("high", -limit)):
        mean = scipy.optimize.brentq(
            lambda mean, wanted=wanted: transformed(mean) - wanted, losses.mean() - reach, losses.mean() + reach
        )
        assert actual[f"gap/loss_{end}"].item() == pytest.approx(mean - float(train.losses.mean()), abs=1e-5)


def test_r2s_standard_error_is_the_jackknifes_of_a_loop_over_scikit_learn():
    val = evaluation("regression", 50, 0.8, 3)
    actual = one_part("test", side(val, "regression"), "regression")
    outputs, targets = val.outputs.numpy(), val.targets.numpy()
    logs = np.array(
        [
            np.log(1 - sklearn.metrics.r2_score(np.delete(targets, row, 0), np.delete(outputs, row, 0)))
            for row in range(50)
        ]
    )
    error = np.sqrt(49 * logs.var())
    missing = 1 - sklearn.metrics.r2_score(targets, outputs)
    kurtosis = scipy.stats.kurtosis(logs, fisher=False)
    reach = error * scipy.stats.t.ppf(0.975, min(49, 2 * 50 / (kurtosis - 1)))
    assert actual["test/r2_se"].item() == pytest.approx(missing * error, rel=1e-6)
    assert actual["test/r2_low"].item() == pytest.approx(1 - missing * np.exp(reach), rel=1e-4)
    assert actual["test/r2_high"].item() == pytest.approx(1 - missing * np.exp(-reach), rel=1e-4)


def test_a_probe_of_the_training_part_widens_and_all_of_it_is_exact():
    train, val = pair("multilabel")
    whole, most, few = (measured(train, val, "multilabel", left) for left in (0.0, 0.3, 1.0))
    for key in ("gap/loss", "gap/accuracy"):
        widths = [float(actual[f"{key}_high"] - actual[f"{key}_low"]) for actual in (whole, most, few)]
        assert widths == sorted(widths)
        assert len(set(widths)) == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("task", ["classification", "binary", "multilabel"])
def test_without_an_error_accuracy_keeps_a_width_and_the_loss_has_no_interval(task, dtype):
    train, val = evaluation(task, 40, 0, 1, dtype=dtype), evaluation(task, 36, 0, 2, dtype=dtype)
    actual = measured(train, val, task)
    assert actual["gap/accuracy"] == actual["gap/accuracy_low"] == 0
    assert actual["gap/accuracy_high"].item() == pytest.approx(3.8415 / (36 + 3.8415), abs=1e-4)  # z^2 / (n + z^2)
    assert actual["gap/loss"].isfinite()
    assert actual["gap/loss_low"].isnan()
    assert actual["gap/loss_high"].isnan()
    tested = one_part("test", side(val, task), task)
    assert tested["test/loss_low"].isnan()
    assert tested["test/accuracy_high"] == 1 > tested["test/accuracy_low"]


def test_a_training_part_without_errors_or_residuals_takes_no_interval_away():
    for task in TASKS:
        name = "r2" if task == "regression" else "accuracy"
        actual = measured(evaluation(task, 80, 0, 1), evaluation(task, 60, 0.9, 2), task, left=0.5)
        assert all(actual[f"gap/{kind}_{end}"].isfinite() for kind in ("loss", name) for end in ("low", "high"))


def test_several_labels_are_worth_as_many_rows_as_they_agree():
    generator = torch.Generator().manual_seed(4)
    targets = torch.ones(500, 4)

    def width(outputs):
        part = Evaluation(example_losses(outputs, targets, "multilabel"), outputs, targets)
        actual = one_part("test", side(part, "multilabel"), "multilabel")
        return float(actual["test/accuracy_high"] - actual["test/accuracy_low"])

    apart = torch.rand(500, 4, generator=generator) - 0.2
    equal = apart[:, :1].expand(500, 4)
    assert width(equal) / width(apart) == pytest.approx(2, rel=0.1)


def test_float32_keeps_the_interval_of_large_losses():
    train, val = pair("classification")
    shifted = [Evaluation(part.losses + 1e4, part.outputs, part.targets) for part in (train, val)]
    single = [Evaluation(part.losses.float(), part.outputs.float(), part.targets) for part in shifted]
    actual, expected = measured(*single, "classification"), measured(train, val, "classification")
    for key in ("gap/loss_low", "gap/loss_high"):
        assert actual[key].dtype == torch.float32
        assert actual[key].item() == pytest.approx(expected[key].item(), abs=5e-3)


@pytest.mark.parametrize("size", [1e-12, 1e12])
def test_the_interval_of_a_loss_scales_with_it_also_in_float32(size):
    train, val = (evaluation("regression", rows, 0.5, rows, dtype=torch.float32) for rows in (80, 60))
    one = measured(train, val, "regression")
    scaled = [
        Evaluation(size * part.losses, size**0.5 * part.outputs, size**0.5 * part.targets) for part in (train, val)
    ]
    actual = measured(*scaled, "regression")
    for end in ("low", "high"):
        assert actual[f"gap/loss_{end}"].item() == pytest.approx(size * one[f"gap/loss_{end}"].item(), rel=1e-3)


@pytest.mark.parametrize("rows", [0, 1])
def test_a_single_row_is_refused(rows):
    train, val = evaluation("binary", 9, 0.5, 1), evaluation("binary", rows, 0.5, 2)
    with pytest.raises(UserError, match=f"at least 2 rows .* got {rows}"):
        measured(train, val, "binary")


@pytest.mark.parametrize("task", TASKS)
def test_a_diverged_model_measures_as_nan_without_an_error(task):
    train, val = pair(task)
    outputs = torch.full_like(val.outputs, float("nan"))
    lost = Evaluation(example_losses(outputs, val.targets, task), outputs, val.targets)
    actual = measured(train, lost, task)
    assert all(actual[key].isnan() for key in ("val/loss", "gap/loss", "gap/loss_low", "gap/loss_high"))
    assert actual["train/loss"].isfinite()


@pytest.mark.parametrize("left", [0.0, 0.4])
def test_the_gap_of_a_users_values_is_that_of_a_loss_and_mirrors_with_its_sign(left):
    """Shifted below zero, where a loss of ours never is, nothing but the sides moves."""
    train, val = pair("multilabel")
    wanted = measured(train, val, "multilabel", left)
    for shift in (0.0, 5.0):
        actual = gap_of_means("loss", train.losses - shift, val.losses - shift, left)
        mirrored = gap_of_means("loss", shift - train.losses, shift - val.losses, left, lower=False)
        for key, value in actual.items():
            moved = shift if key in ("train/loss", "val/loss") else 0.0
            torch.testing.assert_close(value + moved, wanted[key], rtol=0, atol=1e-10)
            if key.startswith("gap/"):
                torch.testing.assert_close(mirrored[key], value, rtol=0, atol=1e-10)
        assert set(actual) == {key for key in wanted if key.rpartition("/")[2].startswith("loss")}


def test_a_gap_of_points_has_no_interval():
    points = gap_of_points("f1", torch.tensor(0.9), torch.tensor(0.7), lower=False)
    assert {key: round(float(value), 6) for key, value in points.items()} == {
        "train/f1": 0.9,
        "val/f1": 0.7,
        "gap/f1": 0.2,
    }
